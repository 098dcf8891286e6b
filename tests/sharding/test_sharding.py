"""Runs the checks of this folder, which need eight devices, where there are eight.

JAX reads the number of virtual devices once, when it starts: hence another process. By
hand: ``XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m pytest
tests/sharding/check_*.py``.
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_on_eight_devices():
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    checks = sorted(HERE.glob("check_*.py"))
    done = subprocess.run([*command, *checks], env=env, cwd=HERE.parents[1])
    assert done.returncode == 0
