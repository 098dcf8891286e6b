"""Every example runs, as its reader would run it, and learns its task."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path for path in EXAMPLES.glob("*.py") if path.name != "digits.py")

pytestmark = pytest.mark.usefixtures("lenient_promotion")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_it_runs_and_learns(path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    accuracy = re.search(r"held-out accuracy ([\d.]+)%", printed)
    assert accuracy, printed
    assert float(accuracy[1]) > 60  # of five classes
