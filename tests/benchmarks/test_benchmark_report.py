"""Records, the page that is made of them, and what is known of their commits."""

import dataclasses
import json
import subprocess

import pytest

from benchmarks import goals, provenance, records
from benchmarks.__main__ import main
from benchmarks.provenance import clean_commit, standing
from benchmarks.records import Record
from benchmarks.report import page, tables
from benchmarks.report.summary import goals_table
from benchmarks.rows import Pair, row
from experiments.errors import InputError

MACHINE = {
    **{"jax": "1", "jaxlib": "1", "optax": "1", "python": "3", "dtnh_jax": "0.2.0"},
    **{"platform": "cpu", "device": "cpu", "cpu": "A CPU", "cpu_cores": 2},
}
CASE = "ResNet-50, 96 px, batch 8, L2-SP"


def step_row(value, batch=None):
    pair = Pair("dtnh", "by hand", goals.L2_SP_STEP if batch is None else None)
    figures = {"ms": {"dtnh": 10.0 * (batch or 1), "by hand": 10.0}}
    if batch is None:
        return row("time", CASE, pair, value, figures, floor=1.0)
    return row("batch", CASE, pair, value, figures, axis=("batch", batch))


def record(commit="0" * 40, **changes):
    rows = [step_row(1.05), step_row(1.5), *(step_row(1.2, n) for n in (1, 10))]
    made = Record("step", MACHINE, commit, "2026-11-27", complete=True, rows=rows)
    return dataclasses.replace(made, **changes)


def git(root, *arguments):
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    command += ["-c", "commit.gpgsign=false", *arguments]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True)
    return done.stdout.decode().strip()


@pytest.fixture
def repository(tmp_path):
    """Of two commits, in a clone with all of its history."""
    root = tmp_path / "origin"
    (root / "dtnh_jax").mkdir(parents=True)
    git(root, "init", "-q", "-b", "main")
    for n in range(2):
        (root / "dtnh_jax" / "code.py").write_text("x = 1\n")
        (root / "notes").write_text(f"{n}\n")
        git(root, "add", ".")
        git(root, "commit", "-q", "-m", str(n))
    return root


def test_a_tree_with_changes_is_refused(repository):
    assert clean_commit(root=repository) == git(repository, "rev-parse", "HEAD")
    results = repository / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "step-cpu.json").write_text("{}")
    clean_commit(root=repository)  # what the benchmarks write does not count
    (repository / "new.py").write_text("")
    for told in (None, "a" * 40):
        with pytest.raises(InputError, match=r"differ from it.*\n.*new\.py"):
            clean_commit(told, repository)


def test_without_a_repository_a_commit_has_to_be_given(tmp_path):
    with pytest.raises(InputError, match="--commit"):
        clean_commit(root=tmp_path)
    assert clean_commit("a" * 40, tmp_path) == "a" * 40
    assert standing("HEAD", tmp_path) == "unknown"


def test_what_became_of_the_library(repository, tmp_path):
    first, last = git(repository, "rev-list", "--reverse", "HEAD").split()
    assert standing(first, repository) == standing(last, repository) == "same"
    assert standing("1" * 40, repository) == "foreign"
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--depth", "1", repository.as_uri(), str(shallow))
    assert standing(last, shallow) == "same"
    assert standing(first, shallow) == "unknown"
    code = repository / "dtnh_jax" / "code.py"
    before = code.read_text()
    code.write_text(f'"""About it."""\n{before}  # a comment\n')
    assert standing(last, repository) == "same"
    code.write_text("x = 2\n")
    assert standing(last, repository) == "changed"
    code.unlink()
    assert standing(last, repository) == "changed"
    git(repository, "checkout", "-q", "-f", "--orphan", "other")
    git(repository, "commit", "-q", "-m", "another history")
    assert standing(last, repository) == "foreign"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder of results with one record, whose commit stands as it is told to."""
    folder = tmp_path / "results"
    record().write(folder)
    told = {"standing": "same"}
    monkeypatch.setattr(provenance, "standing", lambda commit: told["standing"])
    return folder, told


def test_page(published):
    folder, _ = published
    assert page.report(folder, check=False) == 0
    text = (folder.parent / "README.md").read_text()
    line = f"| {CASE} | dtnh | by hand | 1.50 | 1.08, **missed** | 1.00 | 10 / 10 |"
    assert line in text
    assert "| 1.05 | 1.08, met |" in text
    assert "| batch | dtnh | ms | 10 at 1 | 100 at 10 | 1.00 |" in text
    assert "measured at 000000000.*" in text
    assert "Not measured yet." in text  # the others
    (row,) = (folder / "summary.md").read_text().splitlines()[2:]  # one per goal
    assert row == f"| {CASE}: dtnh | by hand | 1.05 | A CPU |"
    assert page.report(folder, check=True) == 0


def test_goals_are_tabulated():
    (line,) = goals_table([record()]).splitlines()[2:]
    name = goals.L2_SP_STEP.name
    cells = [name, "A CPU", "1.08", "1.05 – 1.50", "1 of 2", f"{CASE}, dtnh"]
    assert line == f"| {' | '.join(cells)} |"


def test_check_sees_what_is_out_of_date(published, capsys):
    folder, told = published

    def report(check):
        return page.report(folder, check=check), capsys.readouterr().out

    report(check=False)
    told["standing"] = "changed"  # which the page has to say
    assert report(check=True)[0] == 1
    report(check=False)
    assert page.CHANGED in (folder.parent / "README.md").read_text()
    assert report(check=True) == (0, "")
    told["standing"] = "unknown"  # in a shallow clone either is fine, nothing else
    assert report(check=True)[0] == 0
    told["standing"] = "foreign"
    report(check=False)
    code, said = report(check=True)
    assert code == 1
    assert "out of date" not in said
    assert "not an ancestor" in said
    told["standing"] = "unknown"
    record(complete=False).write(folder)
    code, said = report(check=True)
    assert code == 1
    assert "out of date: README.md" in said
    report(check=False)
    assert "the run was cut short" in (folder.parent / "README.md").read_text()


def test_tests_on_a_device_are_counted():
    row = {"counts": {"passed": 3, "failed": 1}, "failed": ["test_a"]}
    said = page.in_words({**row, "cut": True, "seconds": 9.7})
    assert said == "3 passed, 1 failed in 10 s before it was cut; failed: test_a."


def test_no_result_yet(tmp_path):
    """The summary, which the main README shows, stays as it is."""
    page.report(tmp_path / "results", check=False)
    assert "Not measured yet." in (tmp_path / "README.md").read_text()
    assert not (tmp_path / "results" / "summary.md").exists()


def test_committed_page_is_up_to_date():
    assert main(["report", "--check"]) == 0
    for path in records.FOLDER.glob("*.json"):
        assert json.loads(path.read_text())["commit"].isalnum(), path  # not "-dirty"


def test_exponent_of_a_known_power():
    rows = [step_row(1.0, n) for n in (1, 100, 1000, 10_000)]
    for x in rows:
        x["figures"] = {"ms": (3 * x["n"] ** 1.5, None)}
    rows[0]["figures"] = {"ms": (1e9, None)}  # more than two decades below the last
    line = tables.growth(rows, {"batch": ("ms",)}).splitlines()[-1]
    assert line.endswith("| 1.50 |")
    assert tables.growth(rows[:1], {"batch": ("ms",)}).endswith("| – |")
