"""The report of a grid, whole, half done and without anything."""

import json
import re

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.grid.report import publish

# Its grid takes a minute to run.
pytestmark = pytest.mark.slow


def _report(folder, lines):
    (folder / "cells.jsonl").write_text("".join(lines))
    publish(folder)
    return (folder / "report.md").read_text(), (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def whole(finished, tmp_path_factory):
    """Folder, Markdown and HTML of the whole grid's report."""
    folder = tmp_path_factory.mktemp("report")
    return folder, *_report(folder, finished)


def test_the_table_holds_the_numbers_of_the_chosen_trial(whole, finished):
    _, markdown, _ = whole
    records = [json.loads(line) for line in finished[1:]]
    own = [r for r in records if r["method"] == "l2-sp"][:2]
    best = max(own, key=lambda r: np.mean(r["validation"]))
    mean = np.mean(best["accuracy"])
    error = np.std(best["accuracy"], ddof=1) / np.sqrt(2)
    wanted = (
        f"| L2-SP | λ = {best['weight']:g} | {best['step']} | {mean:.2f} ± {error:.2f}"
    )
    assert wanted in markdown
    assert "not run" not in markdown
    assert "12 of 12 cells are done" in markdown


def test_the_page_stands_alone(whole):
    folder, markdown, page = whole
    figures = re.findall(r"!\[.+?\]\((.+?)\)", markdown)
    assert len(figures) == len(set(figures)) == 7
    for name in figures:
        assert (folder / name).read_bytes().startswith(b"\x89PNG\r\n")
    sources = re.findall(r'(?:src|href)="(.{22})', page)
    assert len(sources) == 7
    assert all(source.startswith("data:image/png;base64") for source in sources)
    assert "<script" not in page
    assert "<table>" in page


@pytest.mark.parametrize("done", [0, 1, 5, 11])
def test_half_a_grid_is_reported_with_what_is_missing(finished, tmp_path, done):
    markdown, _ = _report(tmp_path, [*finished[: 1 + done], finished[-1][:30]])
    assert f"{done} of 12 cells are done" in markdown
    assert "not run" in markdown
    if done == 1:
        assert "rate 0.01 (1 of 2 trials)" in markdown


def test_a_cell_that_failed_is_listed(finished, tmp_path):
    broken = json.loads(finished[-1])
    del broken["accuracy"]
    broken["error"] = "MemoryError: no room"
    markdown, _ = _report(tmp_path, [*finished[:-1], json.dumps(broken) + "\n"])
    assert "batches of 5: MemoryError: no room" in markdown


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no grid in"),
        ("", "no study has begun there"),
        (
            '{"record": "about", "config": {"seeds": 2}}\n',
            "holds another study and not a grid",
        ),
        ("{}\n{oops}\n", "line 2 of"),
    ],
)
def test_a_wrong_folder_is_one_line_and_exit_code_1(content, message, tmp_path, capsys):
    if content is not None:
        (tmp_path / "cells.jsonl").write_text(content)
    assert main(["report", str(tmp_path)]) == 1
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


def test_an_unknown_grid_lists_the_known(capsys):
    assert main(["grid", "smal"]) == 1
    assert "unknown grid 'smal'; known: small, delta" in capsys.readouterr().err
