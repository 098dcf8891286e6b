"""Each benchmark runs from end to end in its quick form; what stops a run."""

import sys

import jax
import pytest

from benchmarks import gpu, provenance, records
from benchmarks.__main__ import BENCHMARKS, TOGETHER, main, run
from benchmarks.report import page
from experiments.errors import InputError


@pytest.fixture
def dirty(monkeypatch):
    def refuse(told):
        raise InputError("these files differ")

    monkeypatch.setattr(provenance, "clean_commit", refuse)


def test_an_unclean_tree_stops_a_run_at_once(dirty, capsys):
    for arguments in ([], ["gpu"], ["memory"]):
        assert main(arguments) == 1
        assert "these files differ" in capsys.readouterr().err


class Cut:
    """A benchmark that is killed after its first case."""

    TITLE = "Cut"

    @staticmethod
    def measure(quick):
        yield [{"counts": {"passed": 1}, "failed": [], "cut": False, "seconds": 1}]
        raise KeyboardInterrupt


def test_a_cut_leaves_the_rows_so_far(monkeypatch, tmp_path):
    monkeypatch.setattr("benchmarks.__main__.BENCHMARKS", {"step": Cut})
    monkeypatch.setattr(provenance, "clean_commit", lambda told: told)
    with pytest.raises(KeyboardInterrupt):
        run("step", quick=False, commit="a" * 40, folder=tmp_path)
    (record,) = records.read(tmp_path)
    assert (len(record.rows), record.complete, record.commit) == (1, False, "a" * 40)
    assert record.machine["jax"] == jax.__version__


def test_a_quick_run_of_an_unclean_tree_writes_nothing(monkeypatch, tmp_path, dirty):
    monkeypatch.setattr(Cut, "measure", lambda quick: iter([[]]))
    monkeypatch.setattr("benchmarks.__main__.BENCHMARKS", {"step": Cut})
    run("step", quick=True, commit=None, folder=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def python(monkeypatch, tmp_path):
    """Sets what is run in place of Python: a script, whose ``$3`` is the benchmark."""

    def becomes(lines):
        script = tmp_path / "python"
        script.write_text(f"#!/bin/sh\n{lines}\n")
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))

    return becomes


def test_a_benchmark_that_is_killed_is_a_failure(python, capfd):
    """And the others are run."""
    python("echo $3; case $3 in memory) kill -9 $$;; esac")
    assert main(["--quick"]) == 1
    assert capfd.readouterr().out.split() == TOGETHER
    python("exit 0")
    assert main(["--quick"]) == 0


def test_a_part_on_a_gpu_that_takes_too_long_is_cut(python, monkeypatch, capfd):
    """And the next one is run; one that fails is said to have failed."""
    python("case $3 in a) sleep 60;; b) exit 3;; esac")
    assert {x for names in gpu.PARTS for x in names} <= {*BENCHMARKS}
    monkeypatch.setattr(gpu, "PARTS", {("a",): 0.2, ("c", "b"): 20})
    assert gpu.run([]) == 1
    said = capfd.readouterr().out.split()
    assert said[::4] == ["cut:", "done:", "failed:"]


# Compiling takes most of a minute for each.
@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_quick(name, tmp_path, lenient_promotion, monkeypatch):
    monkeypatch.setattr(provenance, "standing", lambda commit: "same")
    monkeypatch.setattr(provenance, "clean_commit", lambda told: told)
    folder = tmp_path / "results"
    commit = "a" * 40
    measure = BENCHMARKS[name].measure
    monkeypatch.setattr(BENCHMARKS[name], "measure", lambda quick: measure(True))
    run(name, quick=False, commit=commit, folder=folder)
    (record,) = records.read(folder)
    assert record.complete
    assert record.rows
    page.report(folder, check=False)
    text = (folder.parent / "README.md").read_text()
    assert text.count("measured at aaaaaaaaa") == 1
    if name == "gpu_tests":
        (row,) = record.rows
        assert row["counts"]["passed"] > 5
        assert not row["failed"]
    else:
        tables = {row["table"] for row in record.rows}
        assert tables == set(BENCHMARKS[name].TABLES)
        assert all(row["ratio"]["median"] > 0 for row in record.rows)
