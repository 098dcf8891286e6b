"""``dtnh_sgd`` and ``dtnh_adamw`` are the chains that they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_transform import G, R
from trees import close

from dtnh_jax import GradientPair, conflict_report, dtnh, dtnh_adamw, dtnh_sgd, l2_sp

pytestmark = pytest.mark.usefixtures("lenient_promotion")

ALIASES = [dtnh_sgd, dtnh_adamw]
DEFAULTS = {"granularity": "layer", "on_conflict": "drop", "max_ratio": 3.0}
PAPER = {"granularity": "global", "on_conflict": "project", "max_ratio": None}
PRETRAINED = jax.tree.map(lambda x: x - 1, G)


def run(tx, pairs=True, steps=3):
    params, state = G, tx.init(G)
    for _ in range(steps):
        grads = GradientPair(G, R) if pairs else G
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_sgd_is_its_chain():
    inner = optax.trace(0.9, nesterov=True)
    for given, expected in (({}, DEFAULTS), (PAPER, PAPER)):
        chain = optax.chain(dtnh(0.5, inner=inner, **expected), optax.sgd(0.1))
        close(
            run(dtnh_sgd(0.1, 0.9, True, weight=0.5, **given)), run(chain), 2e-6, 1e-7
        )


def test_adamw_is_its_chain():
    inner = optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(0.2))
    changed = {"granularity": "leaf", "reference_decay": 0.9}
    for given, expected in (({}, DEFAULTS), (changed, {**DEFAULTS, **changed})):
        chain = optax.chain(dtnh(0.5, inner=inner, **expected), optax.sgd(0.1))
        alias = dtnh_adamw(0.1, weight=0.5, weight_decay=0.2, **given)
        close(run(alias), run(chain), 2e-6, 1e-7)


@pytest.mark.parametrize("alias", ALIASES)
def test_with_pretrained_it_takes_plain_gradients(alias):
    chain = optax.chain(l2_sp(PRETRAINED, alpha=1.0), alias(0.1, weight=0.5))
    close(
        run(alias(0.1, weight=0.5, pretrained=PRETRAINED), False),
        run(chain, False),
        2e-6,
        1e-7,
    )


@pytest.mark.parametrize(
    ("alias", "plain"), [(dtnh_sgd, optax.sgd), (dtnh_adamw, optax.adam)]
)
def test_without_weight_it_is_the_optimizer(alias, plain):
    tx = alias(0.1, weight=0.0, pretrained=PRETRAINED)
    close(run(tx, False), run(plain(0.1), False), 1e-5, 1e-7)


@pytest.mark.parametrize("alias", ALIASES)
def test_schedules_keyword_form_and_report(alias):
    tx = alias(optax.constant_schedule(0.1), weight=optax.constant_schedule(0.5))
    state = tx.init(G)
    updates, state = jax.jit(tx.update)(G, state, G, regularizer_grads=R)
    close(
        optax.apply_updates(G, updates),
        run(alias(0.1, weight=0.5), steps=1),
        2e-6,
        1e-7,
    )
    assert conflict_report(state)["(root)"]["conflict"]


@pytest.mark.parametrize("alias", ALIASES)
def test_a_pair_where_pretrained_was_given_is_refused(alias):
    tx = alias(0.1, pretrained=PRETRAINED)
    with pytest.raises(TypeError, match="l2_sp makes the pair"):
        tx.update(GradientPair(G, R), tx.init(G), G)


@pytest.mark.parametrize("alias", ALIASES)
def test_plain_gradients_where_pretrained_was_not_given_are_refused(alias):
    tx = alias(0.1)
    with pytest.raises(TypeError, match="dtnh needs two gradients"):
        tx.update(G, tx.init(G), G)


def test_a_descent_step_lowers_the_loss_of_a_quadratic():
    """Signs: the regularizer must pull towards the pretrained point, not away."""
    params = pretrained = {"w": jnp.array([3.0, 0.0])}
    params = {"w": params["w"] + jnp.array([0.0, 1.0])}
    for alias in ALIASES:
        tx = alias(0.1, weight=1.0, pretrained=pretrained, max_ratio=None)
        grads = jax.tree.map(jnp.zeros_like, params)
        updates, _ = tx.update(grads, tx.init(params), params)
        np.testing.assert_allclose(updates["w"], [0.0, -0.1], 1e-6)
