"""Methods by name, and the updates that they make."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dtnh_jax import GradientPair, dtnh_adamw, dtnh_sgd, l2, l2_sp, mix_regularizers
from experiments.bloop import bloop
from experiments.errors import InputError
from experiments.methods import HEAD_DECAY, REGULARIZERS, RULES, Method, method
from experiments.recipe import OPTIMIZERS, Recipe

RATE, WEIGHT = 0.1, 3.0


@pytest.mark.parametrize("names", [*REGULARIZERS, "kd+l2-sp+l2"])
def test_a_name_says_regularizers_and_rule(names):
    for rule, meant in RULES.items():
        found = method(f"{names}/{rule}")
        assert found == Method(tuple(names.split("+")), meant)
        assert found.distills == ("kd" in names or "delta" in names)
        assert found.label.endswith(f", {meant.label}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plian", "'plian': expected plain, frozen or REGULARIZER/RULE"),
        ("l2sp/sum", "regularizer 'l2sp'; known: l2-sp, l2, kd, delta"),
        ("l2/best", "rule 'best'; known: sum, global, layer, drop, bloop"),
        ("l2+kd+l2/sum", "has the same regularizer twice, or both distillations"),
        ("kd+delta/sum", "or both distillations"),
    ],
)
def test_a_bad_name_is_refused_with_what_is_known(name, message):
    with pytest.raises(InputError) as refused:
        method(name)
    assert message in str(refused.value)


def _trees(count):
    """Parameters, or gradients, with a head; the same each time."""
    keys = jax.random.split(jax.random.key(1), count)
    return [
        {
            "body": {"kernel": jax.random.normal(key, (3, 2))},
            "head": {"bias": jax.random.normal(key, (4,))},
        }
        for key in keys
    ]


def _run(tx, given, start):
    """The parameters after a few updates."""
    params, state, update = start, tx.init(start), jax.jit(tx.update)
    for grads in given:
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


def _ours(name, optimizer, weight=WEIGHT):
    numbers = jnp.float32(weight), jnp.float32(RATE)
    return method(name).transformation(*numbers, Recipe(optimizer=optimizer))


LIBRARY = {
    "sgd": lambda: dtnh_sgd(RATE, momentum=0.9, weight=WEIGHT),
    "adam": lambda: dtnh_adamw(RATE, weight=WEIGHT),
}


@pytest.mark.parametrize(
    ("name", "optimizer"), [("l2-sp+l2/steady", "sgd"), ("kd+l2-sp+l2/steady", "adam")]
)
def test_steady_is_the_default_of_the_library(name, optimizer):
    start, *gradients = _trees(7)
    if method(name).distills:
        gradients = list(map(GradientPair, gradients[::2], gradients[1::2]))
    anchored = l2_sp(beta=HEAD_DECAY, new={"head": True})
    library = optax.chain(mix_regularizers(anchored, l2()), LIBRARY[optimizer]())
    expected = _run(library, gradients, start)
    found = _run(_ours(name, optimizer), gradients, start)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_frozen_trains_the_head_alone(optimizer):
    start, *gradients = _trees(3)
    found = _run(_ours("frozen", optimizer, 0.0), gradients, start)
    plain = _run(_ours("plain", optimizer, 0.0), gradients, start)
    np.testing.assert_array_equal(found["body"]["kernel"], start["body"]["kernel"])
    np.testing.assert_array_equal(found["head"]["bias"], plain["head"]["bias"])
    assert not np.allclose(plain["body"]["kernel"], start["body"]["kernel"])


@pytest.mark.parametrize("sign", [-1, 1])
def test_bloop_leaves_nothing_along_the_average(sign):
    """Nor against it; in the first step the average is along the gradient."""
    g, noise = _trees(2)
    r = jax.tree.map(lambda x, y: sign * x + 0.5 * y, g, noise)
    combined, _ = bloop().update(GradientPair(g, r), bloop().init(g))
    rest = jax.tree.map(lambda d, x: d - x, combined, g)
    norms = optax.tree.norm(rest) * optax.tree.norm(g)
    assert abs(optax.tree.vdot(rest, g) / norms) < 1e-4
    assert optax.tree.norm(rest) > 0.1
