"""``dtnh_sgd`` and ``dtnh_adamw`` are the chains they stand for."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from samplers import G, R

from dtnh_jax import GradientPair, conflict_report, dtnh, dtnh_adamw, dtnh_sgd, l2_sp

pytestmark = pytest.mark.usefixtures("lenient_promotion")
close = functools.partial(chex.assert_trees_all_close, rtol=2e-6, atol=1e-7)

ALIASES = [dtnh_sgd, dtnh_adamw]
STEADY = {"granularity": "layer", "reference_decay": 0.99, "max_ratio": 0.5}
PAPER = {"granularity": "global", "reference_decay": None, "max_ratio": None}
OTHER = {"granularity": "leaf", "reference_decay": 0.5, "on_conflict": "drop"}
PRETRAINED = jax.tree.map(lambda x: x - 1, G)


def run(tx, pairs=True, steps=4):
    """The parameters after some steps, and the state."""
    params, state = G, tx.init(G)
    update = jax.jit(tx.update)
    for sign in (1.0, -1.0, 1.0, 1.0)[:steps]:
        g = jax.tree.map(lambda x, s=sign: x + s * jnp.roll(x, 1), G)
        grads = GradientPair(g, R) if pairs else g
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@pytest.mark.parametrize(
    ("given", "options"),
    [({}, STEADY), (PAPER, PAPER), (OTHER, {**STEADY, **OTHER})],
)
def test_each_is_its_chain(given, options):
    decays = optax.add_decayed_weights(0.2)
    adam = optax.chain(optax.scale_by_adam(0.8, 0.95, 1e-3), decays)
    for alias, reference, inner in (
        (dtnh_sgd(0.1, **given), "gradient", None),
        (dtnh_sgd(0.1, 0.9, True, **given), "gradient", optax.trace(0.9, True)),
        (
            dtnh_adamw(0.1, 0.8, 0.95, 1e-3, weight_decay=0.2, **given),
            "update",
            adam,
        ),
    ):
        rule = dtnh(reference=reference, inner=inner, **options)
        chain = optax.chain(rule, optax.scale_by_learning_rate(0.1))
        (params, state), (expected, other) = run(alias), run(chain)
        close(params, expected)
        assert conflict_report(state) == conflict_report(other)


def test_the_defaults_of_adamw_are_those_of_optax():
    close(run(dtnh_adamw(0.1, weight=0.0))[0], run(optax.adam(0.1), pairs=False)[0])
    close(run(dtnh_sgd(0.1, 0.9, weight=0.0))[0], run(optax.sgd(0.1, 0.9), False)[0])


@pytest.mark.parametrize("alias", ALIASES)
def test_stacked_arrays_are_divided(alias):
    params = {"blocks": {"w": jnp.ones((3, 2))}}
    state = alias(0.1, stacked={"blocks": 0}).init(params)
    assert list(conflict_report(state)) == [f"blocks[{k}]" for k in range(3)]


@pytest.mark.parametrize("alias", ALIASES)
def test_schedules_and_the_keyword_form(alias):
    tx = alias(optax.constant_schedule(0.1), weight=optax.constant_schedule(0.5))
    state = tx.init(G)
    for _ in range(2):
        updates, state = jax.jit(tx.update)(G, state, G, regularizer_grads=R)
    plain = alias(0.1, weight=0.5)
    other = plain.init(G)
    for _ in range(2):
        expected, other = plain.update(GradientPair(G, R), other, G)
    close(updates, expected)
    assert conflict_report(state)["(root)"]["conflict"]


@pytest.mark.parametrize("alias", ALIASES)
def test_after_l2_sp_it_takes_plain_gradients_and_alone_it_refuses_them(alias):
    tx = optax.chain(l2_sp(pretrained=PRETRAINED), alias(0.1))
    params, _ = run(tx, pairs=False)
    assert np.isfinite(params["a"]).all()
    alone = alias(0.1)
    with pytest.raises(TypeError, match="dtnh needs two gradients"):
        alone.update(G, alone.init(G), G)
    with pytest.raises(TypeError, match="unexpected keyword argument 'pretrained'"):
        alias(0.1, pretrained=PRETRAINED)


@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("rate", [np.nan, "0.1", {}])
def test_a_wrong_learning_rate_is_refused(alias, rate):
    with pytest.raises((TypeError, ValueError), match="`learning_rate` must be a num"):
        alias(rate)


@pytest.mark.parametrize("alias", ALIASES)
def test_it_pulls_towards_the_pretrained_point_and_not_away(alias):
    pretrained = {"w": jnp.array([3.0, 0.0])}
    params = {"w": jnp.array([3.0, 1.0])}
    paper = {"reference_decay": None, "max_ratio": None, "weight": 1.0}
    tx = optax.chain(l2_sp(pretrained=pretrained), alias(0.1, **paper))
    grads = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], [0.0, -0.1], 1e-6)
