"""What the tests of ``experiments`` share: a small task that trains in a second."""

import jax
import numpy as np
import pytest

from experiments.data import Dataset
from experiments.finetune import from_scratch
from experiments.networks import Architecture


@pytest.fixture(autouse=True)
def _promotion_as_users_have_it():
    """Adam in Optax raises a float to an int32 power, which "strict" does not allow."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="session")
def small():
    """The smallest architecture, for images of 4x4 pixels and three classes."""
    return Architecture(side=4, channels=(4, 6, 8), hidden=16, classes=3)


@pytest.fixture(scope="session")
def untrained(small):
    """Three seeds of it: to draw them takes longer to compile than to train them.

    With the promotion of the tests, as under another it would be compiled again.
    """
    with jax.numpy_dtype_promotion("standard"):
        return from_scratch(small, 3)


@pytest.fixture(scope="session")
def stripes():
    """60 images of 4x4 pixels whose class is the bright row: learnable in few steps."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3, dtype=np.int32), 20)
    images = rng.uniform(0, 0.3, (60, 4, 4, 1)).astype(np.float32)
    images[np.arange(60), labels] += 0.7
    return Dataset(images, labels, "stripes", 3)
