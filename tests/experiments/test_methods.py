"""The table of methods: a product, under the names that committed results use."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dtnh_jax import GradientPair, dtnh_sgd, l2, l2_sp, mix_regularizers
from experiments import networks
from experiments.finetune import few_shot_target
from experiments.methods import FORMS, HEAD_DECAY, METHODS, REGULARIZERS, family
from experiments.recipe import Recipe
from experiments.step import Reference
from experiments.train import fit


def test_every_regularizer_is_there_in_every_form():
    for regularizer in REGULARIZERS:
        plain_sum, *forms = family(regularizer)
        assert METHODS[plain_sum].on_conflict == "ignore"
        assert len(forms) == len(FORMS) == 4
        for name in forms:
            assert METHODS[name].baseline == regularizer
            assert METHODS[name].towards == METHODS[regularizer].towards
            assert METHODS[name].on_conflict != "ignore"
    assert len(set(METHODS.values())) == len(METHODS)


def test_best_is_the_rule_that_the_study_found_best():
    studied, best = METHODS["inner-drop-cap-3"], METHODS["dtnh-best"]
    for field in ("towards", "on_conflict", "granularity", "max_ratio", "inner"):
        assert getattr(best, field) == getattr(studied, field)


@pytest.mark.parametrize("name", ["steady", "steady-kd"])
def test_steady_is_a_mix_before_the_defaults_of_dtnh_sgd(name):
    keys = jax.random.split(jax.random.key(1), 9)
    shapes = {"body": {"kernel": (3, 2)}, "head": {"bias": (2,)}}
    trees = [
        jax.tree.map(
            lambda shape, key=key: jax.random.normal(key, shape),
            shapes,
            is_leaf=lambda x: isinstance(x, tuple),
        )
        for key in keys
    ]
    start, *gradients = trees
    makers = l2_sp(1.0, HEAD_DECAY, new={"head": True}), l2()
    wanted = optax.chain(mix_regularizers(*makers), dtnh_sgd(0.1, 0.9, weight=3.0))
    pretrained = {**start, "head": {"bias": None}}
    found = METHODS[name].transformation(
        pretrained, jnp.float32(3), jnp.float32(0.1), Recipe(optimizer="sgd")
    )
    steps = []
    for tx in (wanted, found):
        params, state = start, tx.init(start)
        for g, r in zip(gradients[::2], gradients[1::2], strict=True):
            given = GradientPair(g, r) if METHODS[name].distills else g
            updates, state = tx.update(given, state, params)
            params = optax.apply_updates(params, updates)
        steps.append(params)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 1e-5), *steps)


def test_the_names_of_committed_results_stay():
    assert METHODS["dtnh-global"].label == "L2-SP + DTNH (global)"
    assert METHODS["kd-layer"].granularity == "layer"


@pytest.mark.parametrize("name", ["frozen", "plain"])
def test_the_frozen_body_stays_and_the_head_learns(small, untrained, stripes, name):
    start = untrained
    members = few_shot_target(stripes, 4, 3).train
    recipe = Recipe(steps=4, batch_size=6, learning_rate=0.1)
    seen = []
    keys = jax.random.split(jax.random.key(0), 3)
    after, _, _ = fit(
        small, METHODS[name], recipe, start, Reference(networks.anchor(start)), 0.0,
        stripes, members, keys, checkpoint=lambda step, _: seen.append(step),
    )  # fmt: skip
    moved = {
        layer: not np.array_equal(start[layer]["kernel"], after[layer]["kernel"])
        for layer in start
    }
    assert moved == {layer: name == "plain" or layer == "head" for layer in start}
    assert seen == [1, 2, 3, 4]
