"""``stacked`` on a mesh: the groups are those of the whole stack, sharded or not."""

import functools
import re

import chex
import jax
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P
from layouts import in_shard_map, mesh, place, project, state_specs

from dtnh_jax import (
    GradientPair,
    conflict_report,
    dtnh,
    dtnh_adamw,
    l2,
    l2_sp,
    mix_regularizers,
    project_conflict,
)

pytestmark = pytest.mark.usefixtures("lenient_promotion")

LAYERS, STEPS = 8, 3
AXES = {"kernel": 1, "bias": 0}  # of the arrays of `blocks`
LAYERWISE = {"granularity": "layer", "stacked": {"blocks": AXES}}
SHAPES = {
    "blocks": {"kernel": (4, LAYERS, 8), "bias": (LAYERS, 8)},
    "head": {"kernel": (8, 4), "bias": (4,)},
}

HEAD = {"kernel": P("model"), "bias": P()}
WHERE = {
    "whole": {"blocks": {"kernel": P(), "bias": P()}, "head": HEAD},
    "across": {
        "blocks": {"kernel": P("model", None, "data"), "bias": P(None, "model")},
        "head": HEAD,
    },
    # Along the stacked axis; the bias over other devices than the kernel.
    "both": {
        "blocks": {"kernel": P("model", "data"), "bias": P(("data", "model"))},
        "head": HEAD,
    },
}


def steady(stacked, axis_name=None):
    options = {"stacked": stacked, "axis_name": axis_name}
    weights = 0.2, 1.0, 1.0
    mix = mix_regularizers(l2_sp(), l2(mask=True), weights=weights, axis_name=axis_name)
    tx = dtnh_adamw(0.1, reference_decay=0.8, max_ratio=0.9, **options)
    return optax.chain(mix, tx)


def normal(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: rng.standard_normal(shape).astype(np.float32),
        SHAPES,
        is_leaf=lambda x: isinstance(x, tuple),
    )


@functools.cache
def pairs():
    """In conflict in about half of the layers; gradients that agree with the last."""
    base, found = normal(0), []
    for step in range(STEPS):
        g = jax.tree.map(lambda a, b: a + 0.5 * b, base, normal(1 + step))
        found.append(GradientPair(g, normal(10 + step)))
    return found


def train(tx, update=None, put=lambda tree: tree, start=None):
    """Updates of each step, and the last state."""
    params = normal(5)
    state = tx.init(params) if start is None else start
    update = update or jax.jit(tx.update)
    seen = []
    for pair in pairs():
        updates, state = update(put(pair), state, put(params))
        params = jax.tree.map(np.add, params, jax.device_get(updates))
        seen.append(updates)
    return seen, state


@functools.cache
def scanned_alone():
    return train(steady({"blocks": AXES}))


@pytest.mark.parametrize("style", ["automatic", "explicit", "typed", "untyped"])
@pytest.mark.parametrize("where", ["across", "both"])
def test_on_eight_devices(where, style):
    on, specs = mesh("tensor", style), WHERE[where]
    by_device = style in ("typed", "untyped")
    tx, params = steady({"blocks": AXES}, specs if by_device else None), normal(5)
    state, update = tx.init(params), tx.update
    if by_device:
        update = in_shard_map(tx, params, specs, check_vma=style == "typed")

    def put(tree):
        pair = isinstance(tree, GradientPair)
        return place(on, tree, GradientPair(specs, specs) if pair else specs)

    with jax.set_mesh(on):
        start = place(on, state, state_specs(tx, params, specs))
        updates, state = train(tx, jax.jit(update), put, start)
        for x, spec in zip(*map(jax.tree.leaves, (updates[-1], specs)), strict=True):
            sharding = jax.sharding.NamedSharding(on, spec)
            assert x.sharding.is_equivalent_to(sharding, x.ndim)
    found = jax.device_get((updates, state))
    chex.assert_trees_all_close(found, scanned_alone(), rtol=2e-5, atol=2e-6)
    expected = conflict_report(scanned_alone()[1])
    assert list(conflict_report(state)) == list(expected)
    rates = [group["rate"] for group in expected.values()]
    assert min(rates) < max(rates)


def test_names_will_do_where_the_stack_is_whole():
    found = project("tensor", "model", WHERE["whole"], **LAYERWISE)(pairs()[0])
    alone = functools.partial(project_conflict, **LAYERWISE)
    chex.assert_trees_all_close(found, jax.jit(alone)(pairs()[0]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("check_vma", [True, False])
def test_names_do_not_tell_how_a_stack_is_sharded(check_vma):
    words = "does not say whether the stacked axis of the array at ['blocks']"
    names = ("data", "model")
    with pytest.raises(ValueError, match=re.escape(words)):
        project("tensor", names, WHERE["both"], check_vma, **LAYERWISE)(pairs()[0])


def test_init_on_shards_sees_the_whole_stack():
    specs = WHERE["both"]
    tx = dtnh(axis_name=specs, **LAYERWISE)
    state = jax.jit(
        jax.shard_map(
            tx.init, mesh=mesh("tensor", "shard_map"), in_specs=(specs,), out_specs=P()
        )
    )(normal(5))
    assert list(conflict_report(state)) == list(conflict_report(tx.init(normal(5))))
