"""The study `never-hurt`: it runs, goes on where it was, and reports what it found."""

import json

import jax
import numpy as np
import pytest

from experiments.__main__ import main
from experiments.never_hurt.differences import differences
from experiments.never_hurt.report import detail, helped, summary

QUICK = ["never-hurt", "--quick", "--quiet", "--pairs", "select"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder of one quick study, and the arguments that made it."""
    root = tmp_path_factory.mktemp("study")
    arguments = [*QUICK, "--out", str(root / "out"), "--cache", str(root / "cache")]
    with jax.numpy_dtype_promotion("standard"):
        assert main(arguments) == 0
    return root / "out", arguments


@pytest.mark.slow
def test_it_leaves_tables_and_a_figure(study):
    folder, _ = study
    for name in ("table.md", "detail.md", "never-hurt-sgd.png"):
        assert (folder / name).stat().st_size > 500
    assert "| L2-SP |" in (folder / "table.md").read_text()
    # 5 sources, plain and 2 rules at 2 weights each, and the header
    assert len((folder / "cells.jsonl").read_text().splitlines()) == 1 + 5 * 5


@pytest.mark.slow
def test_it_goes_on_where_it_was_and_repairs_a_line_cut_off(study):
    folder, arguments = study
    path = folder / "cells.jsonl"
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    path.write_text("".join(lines[:-2]) + lines[-2][:20])
    assert main(arguments) == 0
    assert path.read_text() == whole


@pytest.mark.slow
def test_a_folder_with_another_study_is_refused(study, capsys):
    folder, arguments = study
    before = (folder / "cells.jsonl").read_text()
    assert main([*arguments, "--per-class", "2"]) == 1
    assert "holds a study with" in capsys.readouterr().err
    assert (folder / "cells.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rules", "dtnh-lair"], "unknown rule 'dtnh-lair'; known: plain, l2"),
        (["--optimizers", "lion"], "unknown optimizer 'lion'; known: sgd, adam"),
        (["--pairs", "train"], "unknown group of pairs 'train'"),
        (["--seeds", "1"], "seeds must be at least 2, got 1"),
    ],
)
def test_a_wrong_request_is_refused_with_words(arguments, says, tmp_path, capsys):
    assert main([*QUICK, *arguments, "--out", str(tmp_path)]) == 1
    assert says in " ".join(capsys.readouterr().err.split())


def cell(method, weight, accuracy):
    record = {"record": "cell", "group": "select", "from": "a", "target": "b"}
    record |= {"optimizer": "sgd", "method": method, "weight": weight}
    return record | ({"accuracy": accuracy} if accuracy else {"diverged": "at 3"})


def test_the_report_counts_what_lies_below_plain():
    records = [
        json.loads('{"record": "about"}'),
        cell("plain", None, [50.0, 60.0, 70.0]),
        cell("l2-sp", 0.1, [54.0, 63.0, 75.0]),  # 4 ± 0.58
        cell("l2-sp", 1.0, [49.0, 59.0, 68.0]),  # -4/3 ± 1/3
        cell("l2-sp", 10.0, None),
        cell("drop", 0.1, [51.0, 61.0, 73.0]),  # 5/3 ± 2/3
        cell("drop", 1.0, [49.0, 60.5, 70.0]),  # -1/6 ± 0.44
        cell("drop", 10.0, [50.0, 60.0, 70.0]),
    ]
    found = differences(records)
    np.testing.assert_allclose(found[0].gain.mean, 4)
    np.testing.assert_allclose(found[0].gain.standard_error, 1 / np.sqrt(3))
    assert [one.below(1) for one in found] == [False, True, True, False, False, False]
    assert [one.below(4.5) for one in found] == [False, False, True, *[False] * 3]
    assert helped(found) == {(("select", "a", "b", "sgd"), 0.1): found[0].gain.mean}
    rows = summary(found, "select", "sgd")
    assert rows[2] == "| L2-SP | 2 of 3 | 2 | diverged (1), −1.3 | 100 % |"
    assert rows[3] == "| drop | 0 of 3 | 0 | −0.2 | 42 % |"
    table = detail(found, ("select", "a", "b", "sgd"))
    assert table[2] == "| L2-SP | +4.0 ± 0.6 | −1.3 ± 0.3 | diverged |"
