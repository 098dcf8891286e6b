"""``dtnh_sgd`` and ``dtnh_adamw`` are the chains they stand for."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from samplers import G, R

from dtnh_jax import GradientPair, conflict_report, dtnh, dtnh_adamw, dtnh_sgd

pytestmark = pytest.mark.usefixtures("lenient_promotion")
close = functools.partial(chex.assert_trees_all_close, rtol=2e-6, atol=1e-7)

STEADY = {"granularity": "layer", "reference_decay": 0.99, "max_ratio": 0.3}
PAPER = {"granularity": "global", "reference_decay": None, "max_ratio": None}
OTHER = {"granularity": "leaf", "reference_decay": 0.5, "on_conflict": "drop"}
OTHER |= {"stacked": {"a": 0}, "weight": lambda count: 0.5 + count}


def run(tx, pairs=True):
    """The parameters after some steps, and the state."""
    params, state = G, tx.init(G)
    update = jax.jit(tx.update)
    for sign in (1.0, -1.0, 1.0, 1.0):
        g = jax.tree.map(lambda x, s=sign: x + s * jnp.roll(x, 1), G)
        grads = GradientPair(g, R) if pairs else g
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@pytest.mark.parametrize(
    ("given", "options"),
    [({}, STEADY), (PAPER, PAPER), (OTHER, {**STEADY, **OTHER})],
    ids=["steady", "paper", "other"],
)
def test_each_is_its_chain(given, options):
    rate = optax.linear_schedule(0.1, 0.2, 4)
    decays = optax.add_decayed_weights(0.2)
    adam = optax.chain(optax.scale_by_adam(0.8, 0.95, 1e-3), decays)
    for alias, reference, inner in (
        (dtnh_sgd(rate, **given), "gradient", None),
        (dtnh_sgd(rate, 0.9, True, **given), "gradient", optax.trace(0.9, True)),
        (
            dtnh_adamw(rate, 0.8, 0.95, 1e-3, weight_decay=0.2, **given),
            "update",
            adam,
        ),
    ):
        rule = dtnh(reference=reference, inner=inner, **options)
        chain = optax.chain(rule, optax.scale_by_learning_rate(rate))
        (params, state), (expected, other) = run(alias), run(chain)
        close(params, expected)
        assert conflict_report(state) == conflict_report(other)


def test_the_defaults_of_adamw_are_those_of_optax():
    close(run(dtnh_adamw(0.1, weight=0.0))[0], run(optax.adam(0.1), pairs=False)[0])
    close(run(dtnh_sgd(0.1, 0.9, weight=0.0))[0], run(optax.sgd(0.1, 0.9), False)[0])


@pytest.mark.parametrize("alias", [dtnh_sgd, dtnh_adamw])
def test_they_take_the_keyword_too(alias):
    tx = alias(0.1)
    keyword = tx.update(G, tx.init(G), G, regularizer_grads=R)
    chex.assert_trees_all_equal(keyword, tx.update(GradientPair(G, R), tx.init(G), G))


@pytest.mark.parametrize("alias", [dtnh_sgd, dtnh_adamw])
@pytest.mark.parametrize("rate", [np.nan, "0.1", {}, None])
def test_a_wrong_learning_rate_is_refused(alias, rate):
    with pytest.raises((TypeError, ValueError), match=r"must be a (real )?number, got"):
        alias(rate)
