"""``jax.pmap``: arrays are whole, which their types do not say, so ``axis_name=()``."""

import functools

import chex
import jax
import numpy as np
import optax
import pytest
from layouts import gradients, network

from dtnh_jax import dtnh, l2_sp, mix_regularizers, skip_nonfinite

pytestmark = pytest.mark.usefixtures("lenient_promotion")

DEVICES = 2


def replicate(tree):
    return jax.tree.map(lambda x: np.stack([np.asarray(x)] * DEVICES), tree)


def train(axis_name):
    """Two steps, in which every device has a batch of its own; on all and on one."""
    mix = mix_regularizers(l2_sp(pretrained=network(1)), axis_name=axis_name)
    tx = optax.chain(mix, dtnh(axis_name=axis_name), optax.sgd(0.05))
    tx = skip_nonfinite(tx, axis_name=axis_name)
    of_devices = [gradients(seed).empirical for seed in range(DEVICES)]
    each = jax.tree.map(lambda *x: np.stack(x), *of_devices)
    mean = jax.tree.map(lambda x: np.mean(x, 0), each)
    params = network(0)

    @functools.partial(jax.pmap, axis_name="batch")
    def step(g, state, params):
        updates, state = tx.update(jax.lax.pmean(g, "batch"), state, params)
        return optax.apply_updates(params, updates), state

    @jax.jit
    def alone(g, state, params):
        updates, state = tx.update(g, state, params)
        return optax.apply_updates(params, updates), state

    several = replicate(params), replicate(tx.init(params))
    one = params, tx.init(params)
    for _ in range(2):
        several, one = step(each, *several[::-1]), alone(mean, *one[::-1])
    return several, one


def test_with_no_axes_it_equals_one_device():
    several, one = train(axis_name=())
    chex.assert_trees_all_close(several, replicate(one), rtol=1e-5, atol=1e-6)


def test_without_it_the_message_names_this_case():
    with pytest.raises(ValueError, match=r"inside jax\.pmap.*pass `axis_name=\(\)`"):
        train(axis_name=None)
