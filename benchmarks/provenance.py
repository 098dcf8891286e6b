"""How a figure was measured: versions, device, commit; and what changed since."""

import ast
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any, Literal

import jax
import optax

import dtnh_jax
from experiments.errors import InputError
from experiments.provenance import git

ROOT = Path(__file__).parents[1]
# Files written by the benchmarks do not count as changes to the tree.
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
      told: the commit to use for a copy that is not a git repository.
      root: folder of the code.

    Raises:
      InputError: if a file differs from the commit, or there is neither a repository
        nor ``told``.
    """
    done = git(root, "rev-parse", "HEAD")
    if done.returncode and told:
        return told
    if done.returncode:
        raise InputError(
            "a record names the commit of the code, but this is not a git repository; "
            "pass --commit for a copy of one, or --quick to write nothing"
        )
    written = (f":!{path}" for path in WRITTEN)
    changed = git(root, "status", "--porcelain", "--", ".", *written).stdout
    if changed:
        raise InputError(
            "a record names the commit of the code, but these files differ from it; "
            f"commit them, or pass --quick to write nothing:\n{changed.rstrip()}"
        )
    return done.stdout.strip()


def standing(commit: str, root: Path = ROOT) -> Standing:
    """Whether code in ``dtnh_jax/``, not only comments and docstrings, changed since.

    ``"same"`` or ``"changed"``; ``"foreign"`` if the commit is not an ancestor of this
    one; ``"unknown"`` if the repository, or its history that far back, is missing.
    """
    if git(root, "merge-base", "--is-ancestor", commit, "HEAD").returncode:
        shallow = git(root, "rev-parse", "--is-shallow-repository").stdout.strip()
        return "foreign" if shallow == "false" else "unknown"
    names = git(root, "diff", "--name-only", "--no-renames", commit, "--", "dtnh_jax")
    for name in names.stdout.splitlines():
        before, now = git(root, "show", f"{commit}:{name}"), root / name
        if before.returncode or not now.exists() or not name.endswith(".py"):
            return "changed"
        if _code(before.stdout) != _code(now.read_text()):
            return "changed"
    return "same"


def _code(text: str) -> str:
    """What Python executes: without comments and docstrings."""

    class WithoutDocstrings(ast.NodeTransformer):
        def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
            return None if isinstance(node.value, ast.Constant) else node

    return ast.dump(WithoutDocstrings().visit(ast.parse(text)))


def _cpu() -> str:
    """The name of the processor, which Python itself does not know on Linux."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()
