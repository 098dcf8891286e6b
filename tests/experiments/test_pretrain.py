"""The cache of pretrained networks: reused, and never trusted blindly."""

import json

import jax
import numpy as np
import pytest

from experiments.data import random_labels
from experiments.pretrain import load_or_pretrain
from experiments.recipe import Recipe

RECIPE = Recipe(steps=4, batch_size=20, learning_rate=3e-3, optimizer="adam")


@pytest.fixture
def pretrain(small, stripes, tmp_path):
    """Pretrains two seeds with a cache of its own; collects the warnings."""
    warnings = []

    def call(dataset=stripes):
        return load_or_pretrain(
            small, RECIPE, dataset, 2, tmp_path / "cache", warnings.append
        )

    call.warnings = warnings
    call.cache = tmp_path / "cache"
    return call


def _same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)
    np.testing.assert_array_equal(a.accuracy, b.accuracy)


def test_the_second_call_reads_the_cache(pretrain):
    made, found = pretrain(), pretrain()
    assert (made.cached, found.cached) == (False, True)
    _same(made, found)
    assert not pretrain.warnings


def test_seeds_differ(pretrain):
    first, second = np.asarray(pretrain().params["dense"]["kernel"])
    assert not np.allclose(first, second)


def test_other_data_are_another_entry(pretrain, stripes):
    pretrain()
    assert not pretrain(random_labels(stripes)).cached
    assert len(list(pretrain.cache.iterdir())) == 2


def _flip_a_byte(folder):
    """Damages the files that hold the arrays without changing their size."""
    for path in folder.glob("params/**/d/*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)


def _other_digest(folder):
    path = folder / "entry.json"
    entry = json.loads(path.read_text())
    entry["files"] |= dict.fromkeys(list(entry["files"])[:1], "0")
    path.write_text(json.dumps(entry))


DAMAGES = {
    "a flipped byte": _flip_a_byte,
    "another digest": _other_digest,
    "no entry.json": lambda folder: (folder / "entry.json").unlink(),
    "a cut entry.json": lambda folder: (folder / "entry.json").write_text('{"files":'),
    "other arrays": lambda folder: (folder / "params").rename(folder / "elsewhere"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_reported_and_remade(pretrain, damage):
    made = pretrain()
    (folder,) = pretrain.cache.iterdir()
    DAMAGES[damage](folder)
    remade = pretrain()
    assert not remade.cached
    (warning,) = pretrain.warnings
    assert folder.name in warning
    _same(made, remade)
    assert pretrain().cached
