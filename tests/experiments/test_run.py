"""Studies are run from the command line, resumed, and say what is wrong."""

import dataclasses
import errno
import io
import itertools
import json
import os
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest
import small_task
from PIL import Image

from experiments import cell, configs
from experiments.__main__ import main
from experiments.data import DATASETS
from experiments.errors import unknown
from experiments.methods import RULES
from experiments.provenance import commit
from experiments.recipe import Recipe
from experiments.run import rates
from experiments.study import Place, Study


@dataclasses.dataclass(frozen=True)
class Stripes:
    """As `SmallImages`, of the small task."""

    spec = small_task.SMALL

    def quick(self):
        return self

    def check_source(self, name, cache, reporter):
        if name != "noise":
            raise unknown("source", name, ["noise"])

    def dataset(self, name, cache, reporter):
        return small_task.dataset()

    def pretrained(self, name, recipe, seeds, cache, reporter):
        return "noise", small_task.params(len(seeds))


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
            code = main(["run", "tiny", "--quiet", "--out", str(out), *arguments])
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
    """The cells of the whole study, which is also its quick form."""
    out = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(configs, "study", lambda name: TINY)
        assert main(["run", "tiny", "--quick", "--out", str(out)]) == 0
    assert "Stripes" in (out / "report.md").read_text()
    return _cells(out)


def test_every_cell_is_one_line(finished):
    trials = [(x["method"], x["learning_rate"], x["weight"]) for x in finished]
    (rate,) = rates(TINY, finished).values()
    assert trials == [
        ("plain", 0.05, None),
        ("plain", 0.1, None),
        ("l2-sp/layer", rate, 0.1),
        ("l2-sp/layer", rate, 1.0),
    ]
    for record in finished:
        assert (record["from"], record["to"]) == ("noise", "stripes")
        assert record["commit"] == commit()
        assert len(record["accuracy"]) == len(record["validation"]) == 2
        assert 0 <= min(record["accuracy"]) <= max(record["accuracy"]) <= 100
        assert ("cosine" in record) == (record["method"] != "plain")
        assert len(json.dumps(record)) < 4000


@pytest.mark.parametrize("inside", [True, False])
def test_ctrl_c_is_one_line_and_the_rest_is_run_later(
    command, finished, out, monkeypatch, request, inside
):
    calls, real = [], cell.train
    # Python leaves SIGINT ignored where the tests run in the background of a shell.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, handler))

    def train(job, target, advanced):
        def interrupt(share):
            if share and len(calls) == 3:
                calls.append("a signal, once")
                signal.raise_signal(signal.SIGINT)

        calls.append(job)
        if not inside:
            interrupt(1)
        return real(job, target, interrupt)

    with monkeypatch.context() as patch:
        patch.setattr(cell, "train", train)
        code, _, errors = command()
    assert (code, errors) == (
        130,
        f"interrupted; the finished cells are in {out}/cells.jsonl, and the same "
        "command resumes after them\n",
    )
    lines = _lines(out)
    assert len(lines) == 1 + 2
    with (out / "cells.jsonl").open("a") as file:
        file.write(lines[-1][:50])  # as if cut off
    assert command()[0] == 0
    assert _lines(out)[:3] == lines
    assert _cells(out) == finished
    before = _lines(out)
    assert command()[0] == 0
    assert _lines(out) == before
    code, _, errors = command("--seeds", "3")
    assert code == 1
    assert "holds a study with other seeds; pass another --out" in errors
    changed = dataclasses.replace(RULES["layer"], max_ratio=0.5)
    monkeypatch.setitem(RULES, "layer", changed)
    assert "holds a study with other rules; pass another --out" in command()[2]
    assert _lines(out) == before


def test_a_cell_that_fails_is_tried_again(command, finished, out, monkeypatch):
    def train(job, target, advanced, real=cell.train):
        if job.recipe.learning_rate == 0.05:
            raise MemoryError("no room")
        return real(job, target, advanced)

    with monkeypatch.context() as patch:
        patch.setattr(cell, "train", train)
        code, printed, _ = command()
    assert code == 0
    assert "learning rate 0.05, sgd, batches of 6: MemoryError: no room" in printed
    failed, fine = _cells(out)  # without it, no rate is chosen for the others
    assert failed["error"] == "MemoryError: no room"
    assert fine == finished[1]
    assert command()[0] == 0
    assert _cells(out)[2:] == [finished[0], *finished[2:]]


def test_a_cell_that_diverges_is_recorded_once(command, out):
    study = dataclasses.replace(TINY, learning_rates=(1e30, 0.05))
    assert command(study=study)[0] == 0
    diverged, *others = _cells(out)
    assert "not finite at step" in diverged["diverged"]
    assert [x["learning_rate"] for x in others if "accuracy" in x] == 3 * [0.05]
    before = _lines(out)
    assert command(study=study)[0] == 0
    assert _lines(out) == before


def test_cells_without_a_learning_rate_are_named(command, out):
    study = dataclasses.replace(TINY, learning_rates=(1e30, 1e31))
    code, output, _ = command(study=study)
    assert code == 0
    assert "warning: noise to stripes, sgd: only plain fine-tuning was run" in output
    assert len(_cells(out)) == 2


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ({"validation": [60, 70]}, {PLACE: 0.05}),  # equal: the smaller
        ({"validation": [60, 71]}, {PLACE: 0.1}),
        ({"diverged": "it did"}, {PLACE: 0.05}),
        ({"error": "it failed"}, {}),
    ],
)
def test_the_rate_is_chosen_when_all_are_tried(second, expected):
    plain = {**dataclasses.asdict(PLACE), "method": "plain", "weight": None}
    done = [{**plain, "learning_rate": 0.05, "validation": [70, 60]}]
    assert rates(TINY, done) == {}
    assert rates(TINY, [*done, {**plain, "learning_rate": 0.1, **second}]) == expected
    assert rates(dataclasses.replace(TINY, learning_rates=()), []) == {PLACE: 0.05}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": (("silence", "stripes"),)}, "unknown source 'silence'; known: noi"),
        ({"recipes": (Recipe(10, 50),)}, "a batch of 50 images is larger than the "),
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


def test_what_cannot_be_run_or_reported_gives_one_line(command, out, capsys):
    assert main(["run", "grid"]) == 1
    assert "error: unknown study 'grid'; known: demo" in capsys.readouterr().err
    assert "error: seeds must be at least 2, got 1" in command("--seeds", "1")[2]
    out.write_text("a file")
    assert command()[::2] == (
        1,
        f"error: cannot write {out}/cells.jsonl: {os.strerror(errno.EEXIST)}\n",
    )
    assert main(["report", str(out)]) == 1
    assert "no study in" in capsys.readouterr().err
    assert command("--cache", str(out))[::2] == (
        1,
        f"error: cannot write to {out}: {os.strerror(errno.EEXIST)}\n",
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo", "never-hurt-why"])
def test_quick_studies_run(name, tmp_path, capsys, monkeypatch):
    # A package that has to be asked for.
    monkeypatch.setitem(DATASETS, "animals", DATASETS["digits"])
    options = ["--quick", "--out", str(tmp_path / name), "--cache", str(tmp_path)]
    assert main(["run", name, *options]) == 0
    assert "written to" in capsys.readouterr().out
    records = _cells(tmp_path / name)
    assert len(records) == len(list(configs.study(name).quick().cells()))
    assert all(np.isfinite(x["accuracy"] + x["loss"]).all() for x in records)


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """Three colours of noise, 40 images of each, in place of the archives."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for name, folders, kind in (
        ("101_ObjectCategories.tar.gz", ["101_ObjectCategories"], "gz"),
        ("cifar10_jpeg.tar.xz", ["cifar10/test"], "xz"),
        ("tiny_imagenet_80_25.tar.xz", ["tiny/train", "tiny/val"], "xz"),
    ):
        path = tmp_path / "runs/data/archives" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, f"w:{kind}") as archive:
            for folder, channel, i in itertools.product(folders, range(3), range(40)):
                pixels = draw.integers(0, 60, (32, 32, 3), dtype=np.uint8)
                pixels[..., channel] += 150
                content = io.BytesIO()
                Image.fromarray(pixels).save(content, "JPEG")
                entry = tarfile.TarInfo(f"{folder}/colour{channel}/{i}.jpg")
                entry.size = content.tell()
                content.seek(0)
                archive.addfile(entry, content)


@pytest.mark.slow
def test_the_quick_study_on_photographs_runs(archives):
    assert main(["run", "photographs", "--quick", "--quiet", "--out", "out"]) == 0
    records = _cells(Path("out"))
    assert len(records) == len(list(configs.study("photographs").quick().cells()))
    assert all(np.isfinite(x["accuracy"] + x["loss"]).all() for x in records)
    names = {x["from"] for x in records}
    assert names == {"ImageNet", "ImageNet, then caltech101, random labels"}
    # Colours are easy for a network that knows ImageNet.
    assert np.mean(records[0]["accuracy"]) > 60
