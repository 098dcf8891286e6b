"""Running a part of a network, on the smallest one of that kind."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.errors import InputError
from experiments.networks import StagedNetwork


def ramp(key, shape, dtype, **_):
    """Evenly spaced weights: a random draw takes seconds to compile."""
    return jnp.linspace(-1, 1, math.prod(shape), dtype=dtype).reshape(shape)


class Small(StagedNetwork):
    """A stem and two stages, each a convolution and a normalization."""

    stages = ("stage1", "stage2", "pooled")

    def __init__(self, rngs: nnx.Rngs):
        def convolved(features_in: int, features_out: int) -> nnx.Sequential:
            shape = features_in, features_out, (3, 3)
            conv = nnx.Conv(*shape, strides=2, kernel_init=ramp, rngs=rngs)
            return nnx.Sequential(conv, nnx.BatchNorm(features_out, rngs=rngs))

        self.stem = convolved(3, 4)
        self.stage1 = convolved(4, 5)
        self.stage2 = convolved(5, 6)
        self.head = nnx.Linear(6, 2, kernel_init=ramp, rngs=rngs)

    def pooled(self, x: jax.Array) -> jax.Array:
        return x.mean(axis=(1, 2))


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(1).normal(size=(2, 16, 16, 3)), "float32")


@pytest.fixture
def network():
    network = Small(nnx.Rngs(0))
    network.eval()
    return network


def test_features_are_the_stages_in_order(network, images):
    shapes = {name: x.shape for name, x in network.features(images).items()}
    assert list(shapes.items()) == [
        ("stage1", (2, 4, 4, 5)),
        ("stage2", (2, 2, 2, 6)),
        ("pooled", (2, 6)),
    ]


@pytest.mark.parametrize("stage", Small.stages)
def test_trunk_and_the_rest_make_the_whole(network, images, stage):
    cut = network.trunk(images, stage)
    np.testing.assert_array_equal(cut, network.features(images)[stage])
    later = network.features(cut, start=stage)
    assert list(later) == list(Small.stages[Small.stages.index(stage) + 1 :])
    np.testing.assert_array_equal(network(cut, start=stage), network(images))


def test_what_comes_before_start_is_not_run(network, images):
    cached = network.trunk(images, "stage1")
    network.train()
    gradient = nnx.grad(lambda net: (net(cached, start="stage1") ** 2).sum())
    grads = nnx.jit(gradient)(network)
    moved = {path[0] for path, g in nnx.to_flat_state(grads) if jnp.any(g[...] != 0)}
    assert moved == {"stage2", "head"}
    untouched = network.stage1.layers[1].mean[...], network.stage2.layers[1].mean[...]
    assert [bool(jnp.all(mean == 0)) for mean in untouched] == [True, False]


def test_evaluation_mode_leaves_the_statistics(network, images):
    network(images)
    means = [network.stem.layers[1].mean[...], network.stage2.layers[1].mean[...]]
    assert all(jnp.all(mean == 0) for mean in means)


@pytest.mark.parametrize("method", ["features", "trunk", "__call__"])
def test_an_unknown_stage_is_an_error_that_lists_the_known(network, images, method):
    with pytest.raises(InputError, match="'stem'; known: stage1, stage2, pooled"):
        getattr(network, method)(images, "stem")
