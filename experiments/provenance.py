"""How a result was made: versions, commit, device and settings."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import flax
import jax
import optax

import dtnh_jax

ROOT = Path(__file__).parents[1]
# The results that a run publishes do not make its commit dirty.
PUBLISHED = "experiments/results"


def about(config: dict[str, Any]) -> dict[str, Any]:
    """Versions, commit, device and configuration, as a JSON object."""
    device = jax.devices()[0]
    return {
        "versions": {
            "dtnh_jax": dtnh_jax.__version__,
            "jax": jax.__version__,
            "flax": flax.__version__,
            "optax": optax.__version__,
            "python": platform.python_version(),
        },
        "commit": commit(),
        "device": f"{device.platform} ({device.device_kind})",
        "cpu_cores": os.cpu_count(),
        "config": config,
    }


def commit() -> str:
    """The commit of the code, followed by "-dirty" if files differ from it."""
    changed = git(ROOT, "status", "--porcelain", "--", ".", f":!{PUBLISHED}").stdout
    head = git(ROOT, "rev-parse", "--short", "HEAD").stdout.strip()
    return (head or "unknown") + "-dirty" * bool(changed)


def git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs git in ``root``; without git, the result is that of a failed command."""
    command = ["git", *arguments]
    try:
        return subprocess.run(command, cwd=root, capture_output=True, text=True)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", "")


def in_words(header: dict[str, Any]) -> str:
    """Versions, commit and device in one line, from ``about``."""
    versions = ", ".join(f"{name} {text}" for name, text in header["versions"].items())
    return (
        f"{versions}; commit {header['commit']}; {header['device']}, "
        f"{header['cpu_cores']} cores."
    )
