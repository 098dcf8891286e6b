"""The oldest versions that are tested are those in pyproject.toml."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_lower_bounds_are_what_make_test_oldest_proves():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["experiments"]
    bounds = dict(x.split(">=") for x in project["dependencies"] + extra if ">=" in x)
    pinned = re.findall(
        r"^(\w+)==(\S+)$", (ROOT / "tests/oldest.txt").read_text(), re.M
    )
    pinned = dict(pinned)
    for name in ("jax", "optax", "flax"):
        assert pinned[name] == bounds[name]
