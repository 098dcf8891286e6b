"""The names in a study of photographs are resolved before any work."""

import numpy as np
import pytest
from rich.console import Console

from experiments import sources
from experiments.data import Dataset
from experiments.errors import InputError
from experiments.networks import Upper
from experiments.progress import Reporter
from experiments.sources import Photographs

IMAGES = Photographs(
    Upper("efficientnet-lite0", "stage6"),
    sets=(("dogs", ("folder:no/such.zip", "all")),),
)
QUIET = Reporter(Console(quiet=True), quiet=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cats", "unknown data set 'cats'; known: dogs"),
        ("dogs:upside-down", "unknown variant of a data set 'upside-down'"),
        ("dogs", "no/such.zip"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused(name, message, tmp_path):
    with pytest.raises(InputError, match=message):
        IMAGES.check_source(name, tmp_path, QUIET)


def test_a_variant_changes_the_pixels_not_the_activations(monkeypatch, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), np.uint8)
    stored = Dataset(pixels, np.arange(20) % 2, "dogs", 2)
    monkeypatch.setattr(sources, "photographs", lambda *a, **k: stored)
    seen = []

    def activations(network, start, images, cache, advanced):
        seen.append(images)
        return np.float16(images).mean(axis=(1, 2), keepdims=True)

    monkeypatch.setattr(sources, "activations", activations)
    found = IMAGES.dataset("dogs:rotations", tmp_path, QUIET)
    turned = [np.rot90(x, turns) for x, turns in zip(pixels, found.labels, strict=True)]
    np.testing.assert_array_equal(seen[0], turned)
    assert found.images.shape == (20, 1, 1, 3)
