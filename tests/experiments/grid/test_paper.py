"""The paper's configurations: what they name exists, and one runs in its quick form."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from experiments.configs import CONFIGS
from experiments.data.photographs import source
from experiments.grid.run import run
from experiments.networks import NETWORKS
from experiments.progress import Reporter

PAPER = [name for name in CONFIGS if name.startswith("paper-")]


@pytest.mark.parametrize("name", PAPER)
def test_data_sets_and_networks_are_known(name, tmp_path):
    grid = CONFIGS[name]
    assert grid.architecture.network in NETWORKS
    for stored, *_ in dict(grid.sets).values():
        source(stored, tmp_path)
    for origin, target in grid.pairs:
        grid.check_source(origin)
        assert target in dict(grid.sets)


@pytest.mark.parametrize("name", PAPER)
def test_the_protocol_is_the_published_one(name):
    recipe = CONFIGS[name].recipe
    assert (recipe.steps, recipe.learning_rate, recipe.optimizer) == (9000, 0.01, "sgd")
    assert [round(float(recipe.schedule(1.0)(x)), 6) for x in (0, 5999, 6000)] == [
        1.0,
        1.0,
        0.1,
    ]
    assert (CONFIGS[name].side, recipe.crop) == (256, 224)


def _photographs(folder, rng):
    """Two classes of noise, in the layout of a set with a split of its own."""
    for split, count in (("train", 6), ("test", 4)):
        for channel, label in enumerate(("red", "green")):
            (folder / split / label).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 60, (40, 48, 3), dtype=np.uint8)
                pixels[..., channel] += 150
                Image.fromarray(pixels).save(folder / split / label / f"{i}.png")


@pytest.mark.slow
def test_the_quick_form_runs_on_sets_of_the_same_form(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # prepared data goes to runs/data
    rng = np.random.default_rng(0)
    for name in ("target", "dogs"):
        _photographs(tmp_path / name, rng)
    grid = CONFIGS["paper-indoor67"]
    quick = dataclasses.replace(
        grid.shortened(),
        pairs=grid.pairs[-1:],
        methods=("plain", "dtnh-layer"),
        weights=(0.1,),
        learning_rates=(0.001,),
        per_class=4,
        validation_per_class=2,
        sets=(
            ("mit_indoor67", ("folder:target", "train", "test")),
            ("stanford_dogs", ("folder:dogs", "train")),
        ),
    )
    reporter = Reporter(Console(quiet=True), quiet=True)
    run(quick, tmp_path / "out", tmp_path / "cache", reporter)
    lines = (tmp_path / "out" / "cells.jsonl").read_text().splitlines()
    _, *cells = map(json.loads, lines)
    assert len(cells) == 2
    for cell in cells:
        # All eight images that the set holds out, not those left over of the others.
        assert set(np.asarray(cell["accuracy"]) % 12.5) == {0}
        assert cell["from"].startswith("ImageNet, then stanford_dogs")
