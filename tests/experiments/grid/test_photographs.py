"""A grid on photographs: the upper part of EfficientNet, on a folder of images."""

import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from experiments.errors import InputError
from experiments.grid.photographs import PhotographGrid
from experiments.grid.run import run
from experiments.networks import Upper
from experiments.progress import Reporter
from experiments.recipe import Recipe


@pytest.fixture
def grid(tmp_path, monkeypatch):
    """Three colours of noise, ten images of each."""
    monkeypatch.chdir(tmp_path)  # prepared data goes to runs/data
    rng = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 60, (40, 48, 3), dtype=np.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    return PhotographGrid(
        pairs=(("imagenet", "colours"), ("colours:random-labels", "colours")),
        methods=("plain", "dtnh-layer"),
        batch_sizes=(4,),
        weights=(0.1,),
        learning_rates=(0.01,),
        recipe=Recipe(steps=10),
        pretraining=Recipe(steps=10, batch_size=8, learning_rate=1e-3),
        architecture=Upper("efficientnet-lite0", "stage7"),
        side=32,
        sets=(("colours", ("folder:photos", "all")),),
        seeds=2,
        per_class=4,
        validation_per_class=1,
        test=12,
    )


@pytest.mark.slow
def test_from_images_to_cells_and_again_from_the_caches(grid, tmp_path):
    reporter = Reporter(Console(quiet=True), quiet=True)
    run(grid, tmp_path / "out", tmp_path / "cache", reporter)
    path = tmp_path / "out" / "cells.jsonl"
    header, *cells = map(json.loads, path.read_text().splitlines())
    assert header["record"] == "about"
    # Every place without a regularizer first: that chooses the learning rate.
    sources = "ImageNet", "ImageNet, then colours, random labels"
    assert [(cell["method"], cell["from"]) for cell in cells] == [
        (method, source) for method in ("plain", "dtnh-layer") for source in sources
    ]
    # Colours are easy for a network that knows ImageNet.
    assert np.mean(cells[0]["accuracy"]) > 60
    # The last cell again: images, activations and networks come out of their caches.
    path.write_text("".join(json.dumps(x) + "\n" for x in (header, *cells[:-1])))
    run(grid, tmp_path / "out", tmp_path / "cache", reporter)
    again = json.loads(path.read_text().splitlines()[-1])
    assert again["accuracy"] == cells[-1]["accuracy"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("colors", "unknown source 'colors'; known: imagenet, colours"),
        ("colours:odd", "unknown variant of a data set 'odd'"),
    ],
)
def test_unknown_sources(grid, name, words):
    with pytest.raises(InputError, match=words):
        grid.check_source(name)


def test_an_unknown_target(grid, tmp_path):
    with pytest.raises(InputError, match="unknown data set 'colors'; known: colours"):
        grid.dataset("colors", tmp_path, Reporter(Console(quiet=True), quiet=True))
