"""Every example in the docstrings, README and docs runs and prints what it says."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import dtnh_jax

# As users have it, not as the other tests do.
pytestmark = pytest.mark.usefixtures("lenient_promotion")

ROOT = Path(__file__).parents[1]
MODULES = [
    "dtnh_jax",
    *(f"dtnh_jax.{m.name}" for m in pkgutil.iter_modules(dtnh_jax.__path__)),
]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages(page):
    """Runs a page's Python blocks one after another, as a reader would."""
    scope = {}
    for block in BLOCK.findall(page.read_text()):
        exec(compile(block, str(page), "exec"), scope)


@pytest.mark.parametrize("name", dtnh_jax.__all__)
def test_every_public_name_is_documented(name):
    public = getattr(dtnh_jax, name)
    assert public.__doc__
    assert f":: {name}\n" in (ROOT / "docs" / "api.md").read_text()
    if callable(public) and not isinstance(public, type):
        for section in ("Args:", "Returns:", "Raises:", "Examples:"):
            assert section in public.__doc__, section
