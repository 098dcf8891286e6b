"""Every transformation of the package in a chain, for tests asked of all of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dtnh_jax import (
    GradientPair,
    dtnh,
    dtnh_adamw,
    dtnh_sgd,
    l2,
    l2_sp,
    mix_regularizers,
    multi_steps,
    skip_nonfinite,
)

RATE = 1e-3
STEADY = {"granularity": "layer", "reference_decay": 0.9, "max_ratio": 1.0}


def _dtnh(weight, momentum=0.9, **kwargs):
    return optax.chain(dtnh(weight, **kwargs), optax.sgd(RATE, momentum))


def _first_axis(tree):
    """Every array that has an axis holds a layer in each row."""
    return jax.tree.map(lambda x: 0 if jnp.ndim(x) else None, tree)


# Each takes the weight, and is to be given pairs.
OPTIMIZERS = {
    "dtnh": functools.partial(_dtnh, granularity="layer"),
    "dtnh steady": functools.partial(
        _dtnh, momentum=None, inner=optax.trace(0.9), **STEADY
    ),
    "dtnh stacked": functools.partial(_dtnh, stacked=_first_axis, **STEADY),
    "dtnh drop": functools.partial(_dtnh, on_conflict="drop"),
    "dtnh_sgd": lambda weight: dtnh_sgd(RATE, 0.9, weight=weight),
    "dtnh_adamw": lambda weight: dtnh_adamw(
        1e-2, weight=weight, reference_decay=0.5, max_ratio=0.5
    ),
    "multi_steps": lambda weight: multi_steps(_dtnh(weight), 2),
    "skip_nonfinite": lambda weight: skip_nonfinite(_dtnh(weight)),
}
# What makes the pair of a plain gradient, from the pretrained parameters.
MAKERS = {
    "pair": lambda pretrained: optax.identity(),
    "l2_sp": lambda pretrained: l2_sp(pretrained=pretrained),
    "l2": lambda pretrained: l2(),
    "mix": lambda pretrained: mix_regularizers(l2_sp(pretrained=pretrained), l2()),
}
PLAIN_WAYS = [
    ("dtnh stacked", "mix"),
    ("dtnh_sgd", "l2"),
    ("dtnh_adamw", "mix"),
    ("skip_nonfinite", "l2_sp"),
]
WAYS = [*((name, "pair") for name in OPTIMIZERS), *PLAIN_WAYS]
every_optimizer = pytest.mark.parametrize(("name", "way"), WAYS)


def optimizer(name, way, pretrained, weight=0.5):
    return optax.chain(MAKERS[way](pretrained), OPTIMIZERS[name](weight))


def gradients(way, g, params, pretrained):
    if way != "pair":
        return g
    return GradientPair(g, jax.tree.map(jnp.subtract, params, pretrained))


def network(dtype=jnp.float32, seed=0):
    """The head and the bias are the same for every seed."""
    kernel = np.random.default_rng(seed).standard_normal((2, 8, 4))
    params = {"body": {"kernel": kernel, "bias": np.ones(8)}, "head": np.ones(())}
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), params)


def types(tree):
    return jax.tree.map(jax.typeof, tree)


def one_step(name, way, dtype=jnp.float32):
    """``step(params, state)``, its parameters, and the optimizer."""
    params, pretrained = network(dtype), network(dtype, seed=1)
    tx = optimizer(name, way, pretrained)

    def step(params, state, **kwargs):
        grads = gradients(way, params, params, pretrained)
        return tx.update(grads, state, params, **kwargs)

    return step, params, tx
