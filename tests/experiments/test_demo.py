"""The demo end to end, through the command line."""

import contextlib
import io
import subprocess
import sys

import jax
import pytest

from experiments.__main__ import main
from experiments.demo import tables
from experiments.demo.compared import ARMS
from experiments.demo.results import Summary, read
from experiments.statistics import Estimate

SOURCES = ("MNIST", "MNIST, random labels")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Runs the quick demo once; gives its folder and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        with contextlib.redirect_stdout(printed), jax.numpy_dtype_promotion("standard"):
            code = main(
                [
                    "demo",
                    "--quick",
                    "--out",
                    f"{folder}/out",
                    "--cache",
                    f"{folder}/cache",
                ]
            )
    assert code == 0
    return folder / "out", printed.getvalue()


@pytest.fixture
def summaries(demo):
    """The summaries that results.jsonl holds."""
    return [
        Summary(
            item["source"],
            item["method"],
            item["weight"],
            None if item["accuracy"] is None else Estimate(**item["accuracy"]),
            None if item["gain"] is None else Estimate(**item["gain"]),
            item["conflict_rate"],
            item["mean_cosine"],
        )
        for item in read(demo[0] / "results.jsonl")
        if item["record"] == "summary"
    ]


@pytest.mark.slow
def test_there_is_a_summary_for_every_cell(summaries):
    cells = [(item.source, item.method, item.weight) for item in summaries]
    wanted = {
        (source, name, weight)
        for source in SOURCES
        for name in ARMS
        for weight in (0.1, 1.0, 100.0)
    }
    plain = {(source, "plain", None) for source in ("random weights", *SOURCES)}
    assert len(cells) == len(set(cells))
    assert set(cells) == wanted | plain


@pytest.mark.slow
def test_table_file_and_terminal_say_what_the_json_says(demo, summaries):
    folder, printed = demo
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    markdown = (folder / "table.md").read_text().splitlines()
    for source in SOURCES:
        assert tables.section(summaries, source) in lines
        for row in tables.rows(summaries, source):
            assert " ".join(row) in lines
            assert f"| {' | '.join(row)} |" in markdown
    assert (folder / "ranges.md").read_text() == tables.ranges(summaries)
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 80


@pytest.mark.slow
def test_the_summaries_follow_from_the_runs(demo, summaries):
    runs = [item for item in read(demo[0] / "results.jsonl") if item["record"] == "run"]
    shares = {
        (run["source"], run["method"], run["weight"], run["seed"]): run["accuracy"]
        for run in runs
    }
    finished = [item for item in summaries if item.accuracy is not None]
    assert len(shares) == len(runs) == 2 * len(finished)
    for item in finished:
        name = item.source, item.method, item.weight
        first, second = (shares[*name, seed] for seed in range(2))
        assert (first + second) / 2 == pytest.approx(item.accuracy.mean, abs=1e-3)
        half_range = abs(first - second) / 2
        assert half_range == pytest.approx(item.accuracy.standard_error, abs=1e-3)
        if item.gain is not None:
            plain = [shares[item.source, "plain", None, seed] for seed in range(2)]
            gain = (first - plain[0] + second - plain[1]) / 2
            assert gain == pytest.approx(item.gain.mean, abs=1e-3)


@pytest.mark.slow
def test_the_header_tells_versions_and_device_and_no_folders(demo):
    folder, printed = demo
    about = read(folder / "results.jsonl")[0]
    assert about["commit"]
    assert about["versions"]["jax"] == jax.__version__
    assert f"jax {jax.__version__}" in (folder / "table.md").read_text()
    assert about["config"]["seeds"] == 2
    assert str(folder.parent) not in str(about)
    assert "these numbers mean nothing" in printed


@pytest.mark.slow
def test_the_figures_are_there(demo):
    for name in ("accuracy.png", "conflict.png"):
        assert (demo[0] / name).read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.slow
def test_progress_without_a_terminal_is_one_line_a_task(demo):
    finished = [line for line in demo[1].splitlines() if line.endswith(" s)")]
    assert len(finished) == 1 + 2 * (1 + 1 + 3 * len(ARMS))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sources", "svhn"], "unknown data set 'svhn'; known: mnist, mnist-low"),
        (["--per-class", "500"], "at most 173"),
        (["--seeds", "1"], "seeds must be at least 2, got 1"),
        (["--lambda", "0"], "λ must be positive, got 0"),
    ],
)
def test_a_bad_request_is_one_line_and_exit_code_1(options, message, capsys, tmp_path):
    code = main(["demo", "--out", str(tmp_path / "out"), *options])
    errors = capsys.readouterr().err
    assert code == 1
    assert message in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_lists_the_commands():
    command = [sys.executable, "-m", "experiments", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "demo" in done.stdout
