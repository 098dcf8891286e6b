"""Crops: parts of the images, each drawn by itself."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import augment
from experiments.errors import InputError
from experiments.finetune import few_shot_target, finetune, from_scratch
from experiments.methods import method
from experiments.networks import anchor
from experiments.recipe import Recipe
from experiments.step import Reference, training

# Every pixel has a number of its own.
IMAGE = np.arange(6 * 7, dtype=np.int32).reshape(1, 6, 7, 1)


def test_random_crops_are_parts_mirrored_or_not():
    images = jnp.broadcast_to(jnp.asarray(IMAGE), (200, 6, 7, 1))
    crops = np.asarray(augment.random_crops(jax.random.key(0), images, 4))
    assert crops.shape == (200, 4, 4, 1)
    corners, mirrored = set(), 0
    for crop in crops[..., 0]:
        flipped = crop[0, 0] > crop[0, -1]
        upright = crop[:, ::-1] if flipped else crop
        top, left = divmod(int(upright[0, 0]), 7)
        part = IMAGE[0, top : top + 4, left : left + 4, 0]
        np.testing.assert_array_equal(upright, part)
        corners.add((top, left))
        mirrored += flipped
    assert len(corners) == 3 * 4  # every place there is
    assert 70 < mirrored < 130


def test_the_middle():
    part = augment.middle(IMAGE, 4)
    np.testing.assert_array_equal(part[0, :, :, 0], IMAGE[0, 1:5, 1:5, 0])


def test_a_step_sees_the_crops(small, untrained, stripes):
    params = jax.tree.map(lambda x: x[0], untrained)
    images = jnp.pad(stripes.images[::6], ((0, 0), (1, 1), (1, 1), (0, 0)))
    labels, key = jnp.asarray(stripes.labels[::6]), jax.random.key(3)

    @functools.partial(jax.jit, static_argnames="crop")
    def loss(images, crop):
        train = training(
            small, method("plain"), Recipe(crop=crop), Reference(anchor(params)),
            jnp.float32(0), jnp.float32(0.1),
        )  # fmt: skip
        return train.step(params, train.init(params), images, labels, key).loss

    seen = augment.random_crops(key, images, 4)
    np.testing.assert_allclose(loss(images, 4), loss(seen, None), 1e-5)
    middle = augment.middle(images, 4)
    assert abs(loss(images, 4) - loss(middle, None)) > 1e-3


@pytest.mark.slow
def test_training_on_crops(small, stripes):
    """The network sees images of the crop's size, in training and in testing."""
    wide = dataclasses.replace(
        stripes, images=np.pad(stripes.images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    )
    target = few_shot_target(wide, 4, 2, validation_per_class=2)
    side = stripes.images.shape[1]
    recipe = Recipe(steps=10, batch_size=6, falls_at=0.5, crop=side)
    cell = finetune(
        small, "nothing", from_scratch(small, 2), "l2-sp", 0.1, recipe, target
    )
    assert np.isfinite(cell.trace.loss).all()
    assert cell.accuracy.shape == (2,)


def test_the_learning_rate_falls_once():
    recipe = Recipe(steps=100, falls_at=0.6)
    schedule = recipe.schedule(jnp.float32(0.1))
    rates = [float(schedule(jnp.int32(count))) for count in (0, 59, 60, 99)]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.01], rtol=1e-6)
    assert Recipe(steps=100).schedule(jnp.float32(0.1)) == jnp.float32(0.1)
    with pytest.raises(InputError, match="falls_at must be in"):
        Recipe(falls_at=0.0)
