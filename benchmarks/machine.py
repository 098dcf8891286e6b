"""On what a benchmark ran: versions, device, and the commit of the code."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax
import optax

import dtnh_jax
from benchmarks.process import ROOT

# What a run of the benchmarks changes itself does not make its commit a dirty one.
GENERATED = ("benchmarks/results", "benchmarks/README.md")


def machine() -> dict[str, Any]:
    """Versions, device and cores."""
    device = jax.devices()[0]
    return {
        "dtnh_jax": dtnh_jax.__version__,
        "jax": jax.__version__,
        "jaxlib": importlib.metadata.version("jaxlib"),
        "optax": optax.__version__,
        "python": platform.python_version(),
        "platform": device.platform,
        "device": device.device_kind,
        "device_count": jax.device_count(),
        "cpu": _cpu(),
        "cpu_cores": os.cpu_count(),
    }


def commit() -> str:
    """The commit of the code, "-dirty" behind it if files differ from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True)
        return done.stdout.decode().strip() if done.returncode == 0 else ""

    changed = git("status", "--porcelain", "--", ".", *(f":!{x}" for x in GENERATED))
    return (git("rev-parse", "--short", "HEAD") or "unknown") + "-dirty" * bool(changed)


def _cpu() -> str:
    """The processor's name, which Python itself does not know on Linux."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()
