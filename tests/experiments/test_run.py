"""Studies are run from the command line, resumed, and say what is wrong."""

import dataclasses
import json
import os
import signal

import numpy as np
import pytest
import small_task
from rich.console import Console

from experiments import cell, configs
from experiments import run as module
from experiments.__main__ import main
from experiments.errors import unknown
from experiments.progress import Reporter
from experiments.recipe import Recipe
from experiments.study import Place, Study


@dataclasses.dataclass(frozen=True)
class Stripes:
    """As `SmallImages`, of the small task."""

    spec = small_task.SMALL

    def quick(self):
        return self

    def check_source(self, name):
        if name != "noise":
            raise unknown("source", name, ["noise"])

    def dataset(self, name, cache, reporter):
        return small_task.dataset()

    def pretrained(self, name, recipe, seeds, cache, reporter):
        return "noise", small_task.params(seeds)


TINY = Study(
    title="Stripes",
    images=Stripes(),
    tasks=(("noise", "stripes"),),
    methods=("plain", "l2-sp/layer"),
    weights=(0.1, 1.0),
    recipes=(Recipe(steps=10, batch_size=6, learning_rate=0.05),),
    pretraining=Recipe(),
    seeds=2,
    per_class=4,
    validation_per_class=5,
    test=100,
    learning_rates=(0.05, 0.1),
)
PLACE = Place("noise", "stripes", "sgd", 6)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def command(out, monkeypatch, capsys):
    """Runs a study by the command; gives exit code, stdout and stderr."""

    def call(*arguments, study=TINY):
        with monkeypatch.context() as patch:
            patch.setattr(configs, "study", lambda name: study)
            code = main(["run", "tiny", "--out", str(out), *arguments])
        return code, *capsys.readouterr()

    return call


def _lines(out):
    return (out / "cells.jsonl").read_text().splitlines()


def _cells(out):
    """The records of the cells, without what differs each time."""
    found = [json.loads(line) for line in _lines(out)[1:]]
    return [{k: v for k, v in record.items() if k != "seconds"} for record in found]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The cells of the whole study."""
    out = tmp_path_factory.mktemp("finished")
    module.run(TINY, out, out / "cache", Reporter(Console(), quiet=True))
    return _cells(out)


def test_every_cell_is_one_line(finished):
    assert [(x["method"], x["learning_rate"], x["weight"]) for x in finished[:2]] == [
        ("plain", 0.05, None),
        ("plain", 0.1, None),
    ]
    (rate,) = {x["learning_rate"] for x in finished[2:]}
    assert {PLACE: rate} == module.rates(TINY, finished)
    assert [x["weight"] for x in finished[2:]] == [0.1, 1.0]
    for record in finished:
        assert (record["from"], record["to"]) == ("noise", "stripes")
        assert len(record["accuracy"]) == len(record["validation"]) == 2
        assert 0 <= min(record["accuracy"]) <= max(record["accuracy"]) <= 100
        assert ("cosine" in record) == (record["method"] != "plain")
        assert len(json.dumps(record)) < 4000


def test_the_command_runs_a_study_and_reports_it(command, finished, out):
    code, output, errors = command("--quick", "--quiet")
    assert (code, errors) == (0, "")
    assert _cells(out) == finished
    assert "Stripes" in (out / "report.md").read_text()
    assert output
    before = _lines(out)
    assert command("--quick", "--quiet")[0] == 0
    assert _lines(out) == before


@pytest.mark.parametrize("inside", [True, False])
def test_ctrl_c_is_one_line_and_the_rest_is_run_later(
    command, finished, out, monkeypatch, inside
):
    calls, real = [], cell.train

    def train(job, target, advanced):
        def interrupt(share):
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGINT)

        calls.append(job)
        if not inside:
            interrupt(0)
        return real(job, target, interrupt)

    with monkeypatch.context() as patch:
        patch.setattr(cell, "train", train)
        code, _, errors = command("--quiet")
    assert code == 130
    assert errors == (
        f"interrupted; finished cells are in {out}/cells.jsonl, and the same command "
        "resumes after them\n"
    )
    before = _lines(out)
    assert len(before) == 1 + 2
    with (out / "cells.jsonl").open("a") as file:
        file.write(before[-1][:50])  # as if cut off
    assert command("--quiet")[0] == 0
    assert _lines(out)[:3] == before
    assert _cells(out) == finished


def test_a_cell_that_fails_is_said_and_tried_again(command, finished, out, monkeypatch):
    real = cell.train

    def train(job, target, advanced):
        if job.weight == 1.0 or (job.recipe.learning_rate == 0.05 and not job.weight):
            raise MemoryError("no room")
        return real(job, target, advanced)

    with monkeypatch.context() as patch:
        patch.setattr(cell, "train", train)
        assert command("--quiet")[0] == 0
    failed, fine = _cells(out)  # without it, no rate is chosen
    assert failed["error"] == "MemoryError: no room"
    assert fine == finished[1]
    assert command("--quiet")[0] == 0
    assert _cells(out)[2:] == [finished[0], *finished[2:]]


def test_a_cell_that_diverges_is_recorded_once(command, out):
    study = dataclasses.replace(TINY, learning_rates=(1e30, 0.05))
    assert command("--quiet", study=study)[0] == 0
    diverged, fine, *others = _cells(out)
    assert "not finite at step" in diverged["diverged"]
    assert "accuracy" in fine
    assert [x["learning_rate"] for x in others] == [0.05, 0.05]
    before = _lines(out)
    assert command("--quiet", study=study)[0] == 0
    assert _lines(out) == before


def _plain(rate, **outcome):
    return {**dataclasses.asdict(PLACE), "method": "plain", "weight": None,
            "learning_rate": rate, **outcome}  # fmt: skip


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ({"validation": [60, 70]}, {PLACE: 0.05}),  # equal: the smaller
        ({"validation": [60, 71]}, {PLACE: 0.1}),
        ({"diverged": "it did"}, {PLACE: 0.05}),
        ({"error": "it failed"}, {}),
        (None, {}),
    ],
)
def test_the_rate_is_chosen_when_all_are_tried(second, expected):
    done = [_plain(0.05, validation=[70, 60])]
    done += [] if second is None else [_plain(0.1, **second)]
    assert module.rates(TINY, done) == expected
    one = dataclasses.replace(TINY, learning_rates=())
    assert module.rates(one, []) == {PLACE: 0.05}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": (("silence", "stripes"),)}, "unknown source 'silence'; known: noi"),
        ({"recipes": (Recipe(10, 50),)}, "a batch of 50 images does not fit into the "),
        ({"per_class": 30}, "at most 19"),
    ],
)
def test_what_the_data_cannot_give_is_said_before_any_work(
    command, out, change, message
):
    code, output, errors = command(study=dataclasses.replace(TINY, **change))
    assert (code, output) == (1, "")
    assert errors.startswith("error: ")
    assert message in errors
    assert not out.exists()


def test_what_no_study_is_gives_one_line(command, out, capsys):
    assert main(["run", "grid"]) == 1
    assert "error: unknown study 'grid'; known: delta" in capsys.readouterr().err
    assert "error: seeds must be at least 2, got 1" in command("--seeds", "1")[2]
    out.write_text("a file")
    code, _, errors = command("--quiet")
    assert (code, errors) == (
        1,
        f"error: cannot write {out}/cells.jsonl: File exists\n",
    )
    assert main(["report", str(out)]) == 1
    assert "no study in" in capsys.readouterr().err


def test_another_study_in_the_folder_is_refused(command, finished, out):
    command("--quiet")
    before = _lines(out)
    code, _, errors = command("--quiet", "--seeds", "3")
    assert code == 1
    assert "holds a study with" in errors
    assert _lines(out) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo", "never-hurt", "small", "delta"])
def test_quick_studies_run(name, tmp_path, capsys):
    options = ["--quick", "--out", str(tmp_path / name), "--cache", str(tmp_path)]
    assert main(["run", name, *options]) == 0
    output = capsys.readouterr().out
    assert "written to" in output
    cells = _cells(tmp_path / name)
    quick = configs.study(name).quick()
    assert len(cells) == len(list(quick.cells()))
    assert all("accuracy" in record for record in cells)
    assert all(np.isfinite(record["loss"]).all() for record in cells)
