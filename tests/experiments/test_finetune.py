"""The front door: from a folder of images to a network, a report and predictions."""

import collections
import contextlib
import dataclasses
import importlib.util
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto import event_pb2

from experiments import digests
from experiments.__main__ import main
from experiments.cell import Target
from experiments.data import Dataset, read_folder
from experiments.errors import InputError
from experiments.finetune import compared, report, saved
from experiments.finetune.command import Finetune
from experiments.finetune.split import split
from experiments.finetune.views import through_frozen_part, views
from experiments.networks import Upper
from experiments.networks.weight_files import from_package
from experiments.training import augment, evaluate, loop

COLORS = "blue", "green", "red"
# The network's last convolution and the head: what compiles fastest.
SHORT = "--from", "7", "--side", "32", "--steps", "30", "--seeds", "2"


def _dataset(per_class, name="all"):
    labels = np.repeat(np.arange(3, dtype=np.int32), per_class)
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    images = np.broadcast_to(images, (len(labels), 4, 4, 3))
    return Dataset(images, labels, name, 3, COLORS)


def _say(_):
    pass


def _parts(target):
    return target.train, target.validation, target.test


@pytest.mark.parametrize("given", [(), ("test",), ("validation",)])
def test_what_the_folder_does_not_hold_out_each_seed_draws(given):
    first = "train" if given else "all"
    target = split({x: _dataset(10, x) for x in (first, *given)}, 3, _say)
    drawn = 2 - len(given)
    assert target.train.shape == (3, 3 * (10 - 2 * drawn))
    for train, validation, test in zip(*_parts(target), strict=True):
        rows = np.concatenate([train, validation, test])
        assert len(set(rows)) == len(rows) == len(target.dataset.labels)
        for part in (train, validation, test):
            counts = np.bincount(target.dataset.labels[part], minlength=3)
            assert len(set(counts)) == 1, "each class has its share"
    for name in given:
        same = getattr(target, name)
        assert (same == same[0]).all()
        assert same.min() >= 30
    assert (target.train[0] != target.train[1]).any()


def test_splits_of_the_folder_are_used_as_they_are_and_counted():
    told = []
    splits = {"train": _dataset(4), "validation": _dataset(2), "test": _dataset(3)}
    target = split(splits, 2, told.append)
    assert [part.shape for part in _parts(target)] == [(2, 12), (2, 6), (2, 9)]
    np.testing.assert_array_equal(target.train[0], range(12))
    np.testing.assert_array_equal(target.test[1], range(18, 27))
    assert told == ["3 classes; 12 images for training, 6 for validation, 9 for test"]


def test_a_class_needs_an_image_for_each_part():
    assert split({"all": _dataset(3)}, 2, _say).train.shape == (2, 3)
    with pytest.raises(InputError, match=r"'blue' has 2 images .* at least 3"):
        split({"all": _dataset(2)}, 2, _say)


def test_fewer_views_of_many_images():
    assert [*map(views, (1, 400, 1000, 9999))] == [8, 8, 4, 1]


def test_the_frozen_part_has_the_weights_that_were_given(tmp_path):
    weights = str(from_package())
    spec = Upper("efficientnet-lite0", "stage1", weights=weights)
    pixels = Target(
        Dataset(np.zeros((2, 36, 36, 3), np.uint8), np.arange(2), "x", 2, ("a", "b")),
        *(np.array([[row]]) for row in (0, 1)),
        range(1),
        np.array([[1]]),
    )
    target = through_frozen_part(spec, pixels, 32, tmp_path)
    assert target.train.tolist() == [[*range(2, 10)]]  # the crops of the first image
    assert target.dataset.labels.tolist() == [0, 1] + 8 * [0]
    assert len(target.dataset.images) == 10
    (file,) = tmp_path.iterdir()
    assert digests.of_file(Path(weights))[:8] in file.name


@pytest.mark.slow
def test_two_processes_finetune_as_one_command(colors, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    names = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    command = [sys.executable, "-m", "experiments", *_command(colors, tmp_path)]
    command += ["--batch-size", "16", "--layout", "fsdp", "--distributed"]
    running = [
        subprocess.Popen(
            [*command, "--cache", str(tmp_path / "cache")],
            env={**os.environ, **names, "JAX_PROCESS_ID": str(index)},
        )
        for index in range(2)
    ]
    assert [process.wait(300) for process in running] == [0, 0]
    network = saved.load(tmp_path / "run")
    side = network.side
    assert network.probabilities(np.zeros((1, side, side, 3), np.uint8)).shape == (1, 3)


def _outcome(name, validation, accuracy, fitted=None):
    record = {"validation": validation, "accuracy": accuracy}
    return compared.Outcome(name, 10, fitted, None, record)


@pytest.mark.parametrize(("validation", "chosen"), [([70, 80], 1), ([60, 70], 0)])
def test_the_best_on_validation_images_is_chosen_and_plain_of_equals(
    validation, chosen
):
    outcomes = [
        _outcome("plain", [60.0, 70.0], [90.0, 92.0]),
        _outcome("l2-sp+l2/steady", validation, [93.0, 93.0]),
    ]
    assert compared.choose(outcomes) is outcomes[chosen]
    assert outcomes[1].seed == 1
    plain, dtnh = "plain fine-tuning", "DTNH (L2-SP + weight decay)"
    order = [(plain, "91.0 ± 1.0 %"), (dtnh, "93.0 ± 0.0 %")]
    (one, its), (two, others) = order[::-1] if chosen else order
    assert compared.sentence(outcomes, 240) == (
        f"{one} {its}, {two} {others}, on 240 test images (2 seeds); {one} was chosen "
        "on validation images"
    )


def _draw(folder):
    rng = np.random.default_rng(0)
    for channel, name in enumerate(reversed(COLORS)):
        place = folder / name
        place.mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 80, (40, 48, 3), dtype=np.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(place / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def colors(tmp_path_factory):
    """Ten images of each of three colours."""
    return _draw(tmp_path_factory.mktemp("images") / "colors")


def _command(colors, place):
    return ["finetune", str(colors), "--out", str(place / "run"), *SHORT]


@pytest.fixture(scope="module")
def finished(colors, tmp_path_factory):
    """A run that was interrupted, refused other options, and was resumed; and what it
    reported: the task, and the outcomes."""
    place = tmp_path_factory.mktemp("finetuned")
    noted, write, told = loop._noted, report.write, []
    reported = []

    def interrupt(*arguments):
        signal.raise_signal(signal.SIGINT)
        return noted(*arguments)

    def keep(out, pixels, outcomes, about):
        reported.extend((pixels, outcomes))
        write(out, pixels, outcomes, about)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(report, "write", keep)
        patch.setattr(loop, "_noted", interrupt)
        command = [*_command(colors, place), "--tensorboard"]
        told.append(main(command))
        with contextlib.redirect_stderr(io.StringIO()) as refused:
            told.append(main([*_command(colors, place), "--learning-rate", "0.1"]))
        patch.setattr(loop, "_noted", noted)
        told.append(main(command))
    assert told == [130, 1, 0]  # the second would be 130 too if it had trained
    assert "learning_rate = 0.003, this run has 0.1" in refused.getvalue()
    return place, *reported


@pytest.fixture(scope="module")
def place(finished):
    return finished[0]


def test_the_network_answers_as_it_did_in_the_test(finished, colors, monkeypatch):
    place, pixels, outcomes = finished
    chosen = compared.choose(outcomes)
    network = saved.load(place / "run")
    assert network.classes == list(COLORS)
    read = network.about["preprocessing"]["resize"]
    (images,) = read_folder(colors, read, cache=place / "cache").values()
    rows = pixels.test[chosen.seed]
    middle = augment.middle(images.images[rows], network.side)
    monkeypatch.setattr(evaluate, "BATCH", 4)
    found, expected = network.probabilities(middle), chosen.answers[chosen.seed]
    # The run rounded the outputs of the frozen part to float16.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
    assert (found.argmax(axis=-1) == images.labels[rows]).mean() > 0.9


def test_what_a_run_leaves(place):
    run = place / "run"
    written = {path.name for path in run.iterdir()}
    assert written == {"network", "report.html", "tensorboard"}
    about = json.loads((run / "network" / "about.json").read_text())
    assert about["network"] == "efficientnet-lite0"
    assert about["preprocessing"]["crop"] == 32
    assert "python -m experiments" in about["command"]
    assert list(about["results"]) == list(compared.METHODS)
    results = about["results"][about["method"]]
    assert results["accuracy"][about["seed"]] == about["test_accuracy"]
    assert len(results["accuracy"]) == len(results["validation"]) == 2
    page = (run / "report.html").read_text()
    for text in ("colors: 3 classes", "DTNH (L2-SP + weight decay)", "blue", "predict"):
        assert text in page
    assert "data:image/png" in page
    assert "src='http" not in page


def _events(folder):
    """What TensorBoard's event files hold: values by tag and step."""
    found = collections.defaultdict(dict)
    for path in sorted(folder.iterdir()):
        records = path.read_bytes()
        while records:  # each with its length and two checksums
            end = 12 + int.from_bytes(records[:8], "little")
            event = event_pb2.Event.FromString(records[12:end])
            records = records[end + 4 :]
            for value in event.summary.value:
                found[value.tag][event.step] = value
    return found


def test_tensorboard_has_means_over_seeds_after_every_piece(finished):
    """Also of the piece after which the run was interrupted, the first."""
    place, _, outcomes = finished
    for one in outcomes:
        trace, pieces = one.fitted.trace, slice(2, None, 3)  # of three steps
        expected = {"loss": trace.loss.mean(axis=0)}
        if one.method.rule:
            expected["conflict"] = trace.conflict.mean(axis=(0, 2))
            expected["pull"] = np.median(trace.pull, axis=(0, 2))
            expected["cosine"] = trace.cosine.sum(axis=(0, 2))
        found = _events(place / "run/tensorboard" / one.name.replace("/", "-"))
        assert found.keys() == expected.keys()
        for tag, values in expected.items():
            assert list(found[tag]) == list(range(3, 31, 3))
            shown = [
                x.histo.sum if tag == "cosine" else x.simple_value
                for x in found[tag].values()
            ]
            np.testing.assert_allclose(shown, values[pieces], rtol=1e-5, atol=1e-6)


def test_tensorboard_needs_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    run = Finetune(tmp_path / "x", tmp_path, tmp_path, tensorboard=True)
    with pytest.raises(InputError, match="--tensorboard needs the package"):
        run.check()


def test_predict_prints_classes(place, colors, capsys, monkeypatch):
    monkeypatch.chdir(colors)
    images = ["red/0.png", "blue/1.png"]
    assert main(["predict", str(place / "run"), *images, "--top", "1"]) == 0
    lines = capsys.readouterr().out
    rows = [line.split() for line in lines.splitlines()[1:]]
    assert [row[:2] for row in rows] == [["red/0.png", "red"], ["blue/1.png", "blue"]]


def test_predict_prints_names_that_look_like_markup(place, colors, capsys, tmp_path):
    run, image = tmp_path / "run", tmp_path / "[bold]a[" / "q].png"
    image.parent.mkdir()
    shutil.copytree(place / "run", run)
    about = run / "network" / "about.json"
    about.write_text(about.read_text().replace('"red"', '"red [small]"'))
    shutil.copy(colors / "red" / "0.png", image)
    assert main(["predict", str(run), str(image), "--top", "1"]) == 0
    output = capsys.readouterr().out.replace("\n", "")
    assert "[bold]a[/q].png" in output
    assert "red [small]" in output


def test_a_finished_run_is_not_overwritten(place, colors, capsys):
    before = (place / "run" / "report.html").read_bytes()
    assert main(_command(colors, place)) == 1
    assert "holds a finished run" in capsys.readouterr().err
    assert (place / "run" / "report.html").read_bytes() == before


@pytest.mark.parametrize(
    ("network", "last"), [("efficientnet-lite0", "stage6"), ("resnet101", "stage3")]
)
def test_all_stages_but_the_last_are_frozen(network, last):
    assert Finetune(Path("x"), network=network).spec.start == last
    assert Finetune(Path("x"), network=network, frozen=0).spec.start is None


def test_each_folder_has_a_run_of_its_own(tmp_path):
    for name in ("data.v1", "data.v2"):
        (tmp_path / name).mkdir()
        assert Finetune(tmp_path / name).place == Path("runs/finetune") / name
    assert Finetune(Path("x/photos.tar.gz")).place == Path("runs/finetune/photos")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--network", "resnet"], "unknown network 'resnet'; known: resnet18"),
        (["--from", "8"], "--from must be in 0..7, the stages of efficientnet-lite0"),
        (["--seeds", "1"], "seeds must be at least 2, got 1"),
        (["--learning-rate", "0"], "learning_rate must be positive"),
        (["--learning-rate", "nan"], "positive and finite, got nan"),
        (["--weights", "nowhere.pth"], "nowhere.pth"),
    ],
)
def test_bad_options(colors, options, error, capsys, tmp_path):
    place = ["--out", str(tmp_path / "run"), "--cache", str(tmp_path)]
    assert main(["finetune", str(colors), *place, *options]) == 1
    assert error in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize("option", ["--out", "--cache"])
def test_a_run_does_not_write_among_the_images(colors, option, capsys, tmp_path):
    places = {"--out": str(tmp_path / "run"), "--cache": str(tmp_path)}
    places[option] = str(colors / "runs")
    options = [word for pair in places.items() for word in pair]
    assert main(["finetune", str(colors), *options]) == 1
    assert (
        f"{option} must not be inside the folder of images" in capsys.readouterr().err
    )
    assert not (colors / "runs").exists()


def test_bad_folders(tmp_path, capsys, place):
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / "about.json").write_text("{")
    run, none = str(place / "run"), str(tmp_path / "none")
    for arguments, error in (
        (["finetune", none], "no such file or folder"),
        (["predict", none, "x.png"], "has no network/about.json"),
        (["predict", run, none], "cannot be read"),
        (["predict", str(tmp_path), "x.png"], "is damaged"),
    ):
        assert main(arguments) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert error in said


def test_the_run_says_what_is_wrong_with_it():
    labels = np.array([[0, 0, 1, 1]])
    dataset = dataclasses.replace(_dataset(2), labels=labels[0])
    target = Target(dataset, labels, np.arange(4)[None], range(1))
    before = {"body": {"w": np.ones((1, 2))}, "head": {"w": np.zeros((1, 2))}}
    fitted = SimpleNamespace(params={**before, "head": {"w": np.ones((1, 2))}})
    one = _outcome("plain", [50.0, 50.0], [50.0, 50.0], fitted)
    job = SimpleNamespace(dataset=dataset, params=before)
    chance, frozen = compared.doubts([one], job, target.test)
    assert "cannot be told from chance" in chance
    assert "no gradient reached the body" in frozen
    # Where nothing but a head is trained, and no result could be above chance.
    before.pop("body"), fitted.params.pop("body")
    few = np.array([[0, 2]])
    assert compared.doubts([one, one], job, few) == [
        "too few test images (2) to tell any result from chance"
    ]
