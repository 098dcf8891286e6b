"""The library's tests on this device, with float32 products in full precision."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.provenance import ROOT

TITLE = "Tests on an accelerator"
FILES = (
    *("projection", "transform", "reference", "regularizers", "mix", "alias"),
    *("sums", "stacked", "inner", "descent", "value_and_grad", "nnx"),
    *("accumulate", "skip", "report", "penalties"),
)
SECONDS = 100
OUTCOME = re.compile(r"\b(PASSED|FAILED|ERROR|SKIPPED|XFAIL)\b")


def measure(quick: bool) -> Iterator[list[dict[str, Any]]]:
    """One row: how many tests passed, and the names of those that did not.

    Outcomes are read as they appear, so that a timeout keeps those so far.
    """
    paths = [f"tests/test_{name}.py" for name in (("mix",) if quick else FILES)]
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"]
    # Other installed plugins, and their warnings, must not stop the run.
    command += ["-p", "no:benchmark", "-W", "default"]
    if not quick:
        command += ["-n", "auto", "--maxprocesses", "8", "--dist", "loadfile"]
    env = {
        **os.environ,
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    limit = ["timeout", str(SECONDS)]
    began = time.perf_counter()
    counts: dict[str, int] = {}
    failed = []
    with subprocess.Popen(
        [*limit, *command, *paths], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout or ():
            match = OUTCOME.search(line)
            # At the end, pytest lists the failed tests again.
            if "::" in line and match and not line.startswith(match[1]):
                counts[match[1].lower()] = counts.get(match[1].lower(), 0) + 1
                if match[1] in ("FAILED", "ERROR"):
                    failed.append(line.split("::", 1)[1].split()[0])
    yield [
        {
            "counts": counts,
            "failed": failed,
            "cut": process.returncode == 124,
            "seconds": time.perf_counter() - began,
        }
    ]
