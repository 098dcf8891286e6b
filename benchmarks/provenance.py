"""With what a figure was measured: versions, device, commit; and what changed since."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any, Literal

import jax
import optax

import dtnh_jax
from experiments.errors import InputError

ROOT = Path(__file__).parents[1]
# What the benchmarks write themselves does not make a tree a changed one.
WRITTEN = ("benchmarks/results", "benchmarks/README.md")

Standing = Literal["same", "changed", "foreign", "unknown"]


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


def clean_commit(told: str | None = None, root: Path = ROOT) -> str:
    """The commit of the code.

    Args:
      told: what to believe of a copy that is no git repository.
      root: of the code.

    Raises:
      InputError: if a file differs from it, or there is no repository and nothing told.
    """
    done = _git(root, "rev-parse", "HEAD")
    if done.returncode and told:
        return told
    if done.returncode:
        raise InputError(
            "a record names the commit of the code, and this is no git repository; "
            "pass --commit for a copy of one, or --quick to write nothing"
        )
    written = (f":!{path}" for path in WRITTEN)
    changed = _git(root, "status", "--porcelain", "--", ".", *written).stdout
    if changed:
        raise InputError(
            "a record names the commit of the code, and these files differ from it; "
            f"commit them, or pass --quick to write nothing:\n{changed.rstrip()}"
        )
    return done.stdout.strip()


def standing(commit: str, root: Path = ROOT) -> Standing:
    """What became of ``dtnh_jax/`` since that commit.

    ``"same"`` or ``"changed"``; ``"foreign"`` where the commit is no ancestor of this
    one; ``"unknown"`` where the repository, or its history that far back, is not there.
    """
    if _git(root, "merge-base", "--is-ancestor", commit, "HEAD").returncode:
        shallow = _git(root, "rev-parse", "--is-shallow-repository").stdout.strip()
        return "foreign" if shallow == "false" else "unknown"
    same = _git(root, "diff", "--quiet", commit, "--", "dtnh_jax").returncode == 0
    return "same" if same else "changed"


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", *arguments]
    try:
        return subprocess.run(command, cwd=root, capture_output=True, text=True)
    except FileNotFoundError:  # no git
        return subprocess.CompletedProcess(command, 127, "", "")


def _cpu() -> str:
    """The processor's name, which Python itself does not know on Linux."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()
