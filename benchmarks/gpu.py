"""The most useful benchmarks on a GPU, in ten minutes: ``python -m benchmarks gpu``."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

# In order of usefulness, with a time limit in seconds. The benchmarks of one entry run
# in parallel, because they do not measure time.
PARTS = {
    ("step",): 260,
    ("update",): 140,
    ("compile",): 80,
    ("gpu_tests", "memory"): 110,
}


def run(options: Sequence[str]) -> int:
    """Runs the parts, each in its own process, and stops those that take too long.

    The record of a stopped part has the results so far.

    Args:
      options: command-line options for each part.

    Returns:
      1 if a part failed, else 0.
    """
    failed = False
    for names, seconds in PARTS.items():
        began = time.perf_counter()
        commands = ([sys.executable, "-m", "benchmarks", x, *options] for x in names)
        processes = [subprocess.Popen(x, start_new_session=True) for x in commands]
        for name, process in zip(names, processes, strict=True):
            ended = _wait(process, seconds - (time.perf_counter() - began))
            failed |= ended == "failed"
            print(f"{ended}: {name}, {time.perf_counter() - began:.0f} s", flush=True)
    return int(failed)


def _wait(process: subprocess.Popen, seconds: float) -> str:
    try:
        return "failed" if process.wait(max(seconds, 0)) else "done"
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return "cut"
