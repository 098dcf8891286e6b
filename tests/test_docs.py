"""Every example in the docstrings, README and docs runs and prints what it says."""

import contextlib
import doctest
import hashlib
import importlib
import io
import pkgutil
import re
from pathlib import Path

import optax
import pytest

import dtnh_jax.nnx

# As users have it, not as the other tests do.
pytestmark = pytest.mark.usefixtures("lenient_promotion")

ROOT = Path(__file__).parents[1]
MODULES = [
    "dtnh_jax",
    *(f"dtnh_jax.{m.name}" for m in pkgutil.iter_modules(dtnh_jax.__path__)),
]
PUBLIC = {n: getattr(m, n) for m in (dtnh_jax, dtnh_jax.nnx) for n in m.__all__}
# `make test-clients` runs the page on trainers.
DOCS = sorted({*(ROOT / "docs").glob("*.md")} - {ROOT / "docs" / "trainers.md"})
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.md"))
# The Python blocks of a page, the cells of a notebook less their options, and the
# blocks that show what was printed.
BLOCK = re.compile(
    r"^```(?:python|\{code-cell\} python)\n(?::[^\n]*\n)*(.*?)^```"
    r"|^```text\n(.*?)^```",
    re.DOTALL | re.MULTILINE,
)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
INCLUDED = re.compile(r"^```\{include\} (\S+)$", re.MULTILINE)


def _pages():
    """README, the pages of the documentation, and what is included in them."""
    pages = [ROOT / "README.md", *DOCS]
    for page in DOCS:
        named = INCLUDED.findall(page.read_text())
        pages += [(page.parent / name).resolve() for name in named]
    # `make docs` runs the notebooks too.
    marks = dict.fromkeys(NOTEBOOKS, pytest.mark.slow)
    return [
        pytest.param(page, id=str(page.relative_to(ROOT)), marks=marks.get(page, ()))
        for page in dict.fromkeys([*pages, *NOTEBOOKS])
    ]


def _run(page):
    """Runs a page's Python blocks one after another, as a reader would.

    A block of text after them must show what they printed since the last one.
    """
    scope, printed = {}, io.StringIO()
    for block, shown in BLOCK.findall(page.read_text()):
        if "optax.microbatching" in block and not hasattr(optax, "microbatching"):
            continue  # newer than this Optax
        if block:
            with contextlib.redirect_stdout(printed):
                exec(compile(block, str(page), "exec"), scope)
        elif printed.getvalue():  # else it shows something else than Python's output
            _check_shown(shown, printed.getvalue())
            printed = io.StringIO()


def _check_shown(shown, printed):
    """The same words, and numbers that are close: digits differ between machines."""
    words = (NUMBER.sub("#", text).split() for text in (shown, printed))
    assert next(words) == next(words), printed
    pairs = zip(*(map(float, NUMBER.findall(x)) for x in (shown, printed)), strict=True)
    for expected, actual in pairs:
        assert actual == pytest.approx(expected, rel=0.1, abs=0.02), printed


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.fixture
def pictures(monkeypatch):
    """Makes ``plt.show`` draw every figure, as a notebook does, and close it."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    drawn = []

    def show():
        for number in pyplot.get_fignums():
            pyplot.figure(number).canvas.draw()
            drawn.append(number)
        pyplot.close("all")

    pyplot.switch_backend("Agg")
    monkeypatch.setattr(pyplot, "show", show)
    return drawn


@pytest.mark.parametrize("page", _pages())
def test_pages(page, pictures):
    _run(page)
    assert bool(pictures) == ("plt.show()" in page.read_text())


def test_figures_come_from_the_script_as_it_is():
    script = ROOT / "docs" / "figures" / "vectors.py"
    digest = hashlib.sha256(script.read_bytes()).hexdigest()
    figures = list(script.parent.glob("*.svg"))
    assert figures
    for figure in figures:
        assert digest in figure.read_text(), f"run {script.relative_to(ROOT)}"


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented(name):
    public = PUBLIC[name]
    assert public.__doc__
    assert f"\n   {name}\n" in (ROOT / "docs" / "api.md").read_text()
    if callable(public) and not isinstance(public, type):
        for section in ("Args:", "Returns:", "Raises:", "Examples:"):
            assert section in public.__doc__, section
