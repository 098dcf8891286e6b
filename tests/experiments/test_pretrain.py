"""The cache of pretrained networks: reused, and remade where it is damaged."""

import dataclasses

import chex
import jax
import numpy as np
import pytest
import small_task
from rich.console import Console

from experiments.data import random_labels
from experiments.pretrain import pretrain
from experiments.progress import Reporter
from experiments.recipe import Recipe

RECIPE = Recipe(steps=4, batch_size=20, learning_rate=3e-3, optimizer="adam")


@pytest.fixture
def call(stripes, tmp_path):
    """Pretrains two seeds with a cache of its own; gives them, and what is said."""
    reporter = Reporter(Console(record=True, width=200))

    def pretrained(dataset=stripes, recipe=RECIPE, begin=None):
        found = pretrain(
            small_task.SMALL, recipe, dataset, range(2), tmp_path, reporter, begin
        )
        return found, reporter.console.export_text()

    return pretrained


def test_the_second_call_reads_the_cache(call, tmp_path):
    made, said = call()
    assert "stripes: pretraining" in said
    found, said = call()
    assert said == ""
    chex.assert_trees_all_equal(found, made)
    (path,) = tmp_path.iterdir()
    assert path.suffix == ".safetensors"
    first, second = np.asarray(made["dense"]["kernel"])
    assert not np.allclose(first, second)


def test_what_determines_the_networks_makes_another_entry(call, stripes, tmp_path):
    begin = jax.tree.map(lambda x: x[0], small_task.params(1))
    call()
    for change in (
        {"dataset": random_labels(stripes)},
        {"recipe": dataclasses.replace(RECIPE, learning_rate=0.1)},
        {"begin": begin},
    ):
        found, said = call(**change)
        assert "pretraining" in said
    assert len(list(tmp_path.iterdir())) == 4
    # Seeds that begin with one network differ by the order of the images alone.
    moved = np.asarray(found["conv1"]["kernel"]) - begin["conv1"]["kernel"][None]
    assert 0 < np.abs(moved).max() < 0.02


def test_a_damaged_entry_is_reported_and_remade(call, tmp_path):
    made, _ = call()
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        remade, said = call()
        assert f"warning: remaking damaged cache entry {path.name}" in said
        chex.assert_trees_all_equal(remade, made)
        assert path.read_bytes() == whole
