"""A grid that runs in seconds."""

import io

import jax
import pytest
from rich.console import Console

from experiments.grid.config import SmallGrid
from experiments.grid.run import run
from experiments.networks import Architecture
from experiments.progress import Reporter
from experiments.recipe import Recipe


@pytest.fixture(scope="session")
def tiny():
    """Two pairs that share their compilations, three methods of two trials each.

    Pretraining is of the same form as plain fine-tuning, and shares its program too.
    """
    return SmallGrid(
        pairs=tuple(
            (f"digits:{how}", "digits") for how in ("permuted-pixels", "random-labels")
        ),
        methods=("plain", "l2-sp", "delta"),
        batch_sizes=(5,),
        weights=(0.1, 1.0),
        learning_rates=(0.01, 0.03),
        recipe=Recipe(steps=10, learning_rate=0.003),
        pretraining=Recipe(steps=10, learning_rate=0.003, batch_size=5),
        architecture=Architecture(side=4, channels=(4, 6, 8), hidden=16),
        seeds=2,
        per_class=2,
        test=60,
    )


@pytest.fixture(scope="session")
def run_quietly(tmp_path_factory):
    """Runs a grid into a folder; all share one cache of pretrained networks."""
    cache = tmp_path_factory.mktemp("cache")

    def call(grid, folder):
        reporter = Reporter(Console(file=io.StringIO()), quiet=True)
        with jax.numpy_dtype_promotion("standard"):
            run(grid, folder, cache, reporter)
        return folder / "cells.jsonl"

    return call


@pytest.fixture(scope="session")
def finished(tiny, run_quietly, tmp_path_factory):
    """The lines of the whole tiny grid, header first."""
    path = run_quietly(tiny, tmp_path_factory.mktemp("whole"))
    return path.read_text().splitlines(keepends=True)
