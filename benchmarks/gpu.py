"""What is worth most on a GPU, in ten minutes: ``python -m benchmarks gpu``."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

# In order of worth, with the seconds that each may take. Rows of `update` have compile
# time, memory and bandwidth on the arrays of real networks, too.
PARTS = {"gpu_tests": 135, "update": 195, "step": 155, "compile": 60, "memory": 45}


def run(options: Sequence[str], parts: dict[str, int] | None = None) -> int:
    """Runs the parts, each in a process of its own, and cuts those that take too long.

    What a part found before it was cut is in its record.

    Args:
      options: of the command line, for each part.
      parts: seconds by name of the benchmark; by default ``PARTS``.

    Returns:
      1 if a part failed, else 0.
    """
    failed = 0
    for name, seconds in (parts or PARTS).items():
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks", name, *options], start_new_session=True
        )
        try:
            ended = "failed" if process.wait(seconds) else "done"
        except subprocess.TimeoutExpired:
            ended = "cut"
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        failed |= ended == "failed"
        print(f"{ended}: {name}, {time.perf_counter() - began:.0f} s", flush=True)
    return int(failed)
