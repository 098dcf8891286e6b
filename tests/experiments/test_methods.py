"""Methods by name, and the updates that they make."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dtnh_jax import GradientPair, dtnh_adamw, dtnh_sgd, l2, l2_sp, mix_regularizers
from experiments import configs
from experiments.errors import InputError
from experiments.methods import (
    FEATURE_SCALE,
    HEAD_DECAY,
    REGULARIZERS,
    RULES,
    Method,
    method,
)
from experiments.recipe import OPTIMIZERS, Recipe

RATE, WEIGHT = 0.1, 3.0


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("names", [*REGULARIZERS, "l2-sp+l2", "kd+l2-sp+l2"])
def test_a_name_says_regularizers_and_rule(names, rule):
    found = method(f"{names}/{rule}")
    assert found == Method(tuple(names.split("+")), RULES[rule])
    assert found.distills == ("kd" in names or "delta" in names)


def test_labels():
    names = "plain", "frozen", "kd/layer", "kd+l2-sp+l2/steady"
    assert [method(name).label for name in names] == [
        "plain fine-tuning",
        "frozen body",
        "KD, DTNH (layer)",
        "KD + L2-SP + weight decay, steady",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plian", "'plian': expected plain, frozen or REGULARIZER/RULE"),
        ("", "expected plain, frozen or REGULARIZER/RULE"),
        ("l2sp/sum", "regularizer 'l2sp'; known: l2-sp, l2, kd, delta"),
        ("l2+/sum", "regularizer ''; known: l2-sp"),
        ("l2/best", "rule 'best'; known: sum, global, layer, drop, drop-capped"),
        ("l2/", "rule ''; known: sum"),
        ("plain/sum", "regularizer 'plain'"),
        ("l2+kd+l2/sum", "has a regularizer twice, or both distillations"),
        ("kd+delta/sum", "has a regularizer twice, or both distillations"),
    ],
)
def test_a_bad_name_is_refused_with_what_is_known(name, message):
    with pytest.raises(InputError) as refused:
        method(name)
    assert message in str(refused.value)


def test_the_methods_of_all_studies_are_known_and_differ():
    for name in configs.names():
        names = configs.study(name).methods
        assert len({method(each) for each in names}) == len(names)


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
    params, state = start, tx.init(start)
    for grads in given:
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


def _ours(name, optimizer, weight=WEIGHT):
    numbers = jnp.float32(weight), jnp.float32(RATE)
    return method(name).transformation(*numbers, Recipe(optimizer=optimizer))


def _same(found, expected):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 1e-5), found, expected)


LIBRARY = {
    "sgd": lambda: dtnh_sgd(RATE, momentum=0.9, weight=WEIGHT),
    "adam": lambda: dtnh_adamw(RATE, weight=WEIGHT),
}


@pytest.mark.parametrize("optimizer", LIBRARY)
@pytest.mark.parametrize("name", ["l2-sp+l2/steady", "kd+l2-sp+l2/steady"])
def test_steady_is_the_default_of_the_library(name, optimizer):
    start, *gradients = _trees(9)
    if method(name).distills:
        gradients = list(map(GradientPair, gradients[::2], gradients[1::2]))
    anchored = l2_sp(beta=HEAD_DECAY, new={"head": True})
    library = optax.chain(mix_regularizers(anchored, l2()), LIBRARY[optimizer]())
    expected = _run(library, gradients, start)
    _same(_run(_ours(name, optimizer), gradients, start), expected)
    other = _run(_ours(name.replace("steady", "layer"), optimizer), gradients, start)
    assert not np.allclose(other["body"]["kernel"], expected["body"]["kernel"], 1e-3)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", ["l2-sp", "l2"])
def test_the_plain_sum_is_the_gradient_of_loss_plus_penalty(name, optimizer):
    start, target = _trees(2)

    def half_square(x, y):
        return 0.5 * sum(jnp.sum(d**2) for d in jax.tree.leaves(optax.tree.sub(x, y)))

    def penalty(params):
        if name == "l2":
            return half_square(params, optax.tree.zeros_like(params))
        head = half_square(params["head"], optax.tree.zeros_like(params["head"]))
        return half_square(params["body"], start["body"]) + HEAD_DECAY * head

    def run(tx, of):
        params, state = start, tx.init(start)
        for _ in range(4):
            grads = jax.grad(of)(params)
            updates, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        return params

    plain = {"sgd": optax.sgd(RATE, momentum=0.9), "adam": optax.adam(RATE)}[optimizer]
    expected = run(
        plain, lambda params: half_square(params, target) + WEIGHT * penalty(params)
    )
    found = run(
        _ours(f"{name}/sum", optimizer), lambda params: half_square(params, target)
    )
    _same(found, expected)


def test_a_distance_of_features_is_scaled():
    start, g, r = _trees(3)
    found = _run(_ours("kd/sum", "sgd"), [GradientPair(g, r)], start)
    scale = FEATURE_SCALE * WEIGHT
    expected = jax.tree.map(lambda w, g, r: w - RATE * (g + scale * r), start, g, r)
    _same(found, expected)


def test_frozen_trains_the_head_alone():
    start, *gradients = _trees(3)
    found = _run(_ours("frozen", "sgd", 0.0), gradients, start)
    plain = _run(_ours("plain", "sgd", 0.0), gradients, start)
    np.testing.assert_array_equal(found["body"]["kernel"], start["body"]["kernel"])
    np.testing.assert_array_equal(found["head"]["bias"], plain["head"]["bias"])
    assert not np.allclose(plain["body"]["kernel"], start["body"]["kernel"])
