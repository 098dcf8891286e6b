"""``axis_name`` inside ``jax.shard_map``: what is added up over which devices."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P
from layouts import (
    LAYOUTS,
    SHARDED_OVER,
    TWO_AXES,
    gradients,
    mesh,
    project,
    specs,
)
from samplers import stack

from dtnh_jax import GradientPair, dtnh_sgd, project_conflict

same = chex.assert_trees_all_equal
close = functools.partial(chex.assert_trees_all_close, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_almost_to_the_last_bit_where_no_sum_is_rounded(layout):
    """Sums of small whole numbers are exact in any order: only the order differs.

    The last bit may: a compiler may fuse a product and a sum of one shape only.
    """
    pair = gradients(0, integers=True)
    sharded = project(layout, SHARDED_OVER[layout], granularity="layer")(pair)
    alone = jax.jit(functools.partial(project_conflict, granularity="layer"))
    chex.assert_trees_all_close(sharded, alone(pair), rtol=2e-7, atol=5e-7)
    assert differ(sharded, pair.regularizer)


def differ(a, b):
    pairs = zip(*map(jax.tree.leaves, (a, b)), strict=True)
    return not all(np.array_equal(x, y) for x, y in pairs)


def test_bit_for_bit_where_nothing_is_divided():
    pair = gradients(0)
    same(project("data", None)(pair), jax.jit(project_conflict)(pair))


@pytest.mark.parametrize("r_scale", [1e-22, 1.0])
@pytest.mark.parametrize("elsewhere", [0.0, 1e-12, 1.0])
@pytest.mark.parametrize("g_scale", [1e-22, 1e-12, 1e12])
def test_every_scale(g_scale, elsewhere, r_scale):
    """Also where squares underflow on some devices only; 1e-22 counts as zero."""
    g, r = (rescale(half, np.float32(elsewhere)) for half in gradients(0))
    g = jax.tree.map(lambda x: np.asarray(x) * np.float32(g_scale), g)
    r = jax.tree.map(lambda x: np.asarray(x) * np.float32(r_scale), r)
    found = [jax.device_get(f(GradientPair(g, r))) for f in on_eight_and_on_one()]
    if 1e-22 in (g_scale, r_scale):
        same(*found, r)
    else:
        close(*found)
        assert differ(found[0], r)


@pytest.mark.parametrize(("part", "is_zero"), [(0.9, True), (1.1, False)])
def test_all_devices_count_the_same_as_zero(part, is_zero):
    """By the size of the whole array, and not of a shard."""
    info = np.finfo(np.float32)
    size = part * np.sqrt(info.tiny / info.eps)
    g = jax.tree.map(lambda x: np.full_like(x, size), gradients(0).empirical)
    pair = GradientPair(g, jax.tree.map(np.negative, g))
    for projected in (f(pair) for f in on_eight_and_on_one()):
        assert differ(projected, pair.regularizer) != is_zero


@functools.cache
def on_eight_and_on_one():
    return project("tensor", "model"), jax.jit(project_conflict)


@jax.jit
def rescale(tree, factor):
    """``tree`` with what is on all devices along ``model`` but the first scaled."""

    def times(spec, x):
        for axis, name in enumerate(spec):
            if name == "model":
                size = x.shape[axis]
                on_first = jnp.arange(size) < size // 4
                shape = [size if i == axis else 1 for i in range(x.ndim)]
                x = jnp.where(on_first.reshape(shape), x, x * factor)
        return x

    return jax.tree.map(times, specs("tensor"), tree)


def test_a_replicated_array_counts_once():
    """The last bias is on all devices; here it alone decides on the conflict."""
    zero = jax.tree.map(np.zeros_like, gradients(0).empirical)
    g, r = (jax.tree.map(np.copy, zero) for _ in range(2))
    g["second"]["bias"] += 1
    r["second"]["bias"] -= 1
    g["first"]["bias"] += 1
    r["first"]["bias"] += 0.75
    # <g, r> = 12 - 8: no conflict, but 12 - 4 * 8 if it were counted on each device.
    same(on_eight_and_on_one()[0](GradientPair(g, r)), r)


@pytest.mark.parametrize("axis_name", [("data", "model"), TWO_AXES])
@pytest.mark.parametrize("check_vma", [True, False])
def test_two_axes(axis_name, check_vma):
    """With untyped arrays names hold for all, and only specs say which are whole."""
    pair = gradients(0)
    sharded = project("tensor", axis_name, TWO_AXES, check_vma)(pair)
    expected = jax.jit(project_conflict)(pair)
    if check_vma or axis_name is TWO_AXES:
        close(sharded, expected)
    else:
        with pytest.raises(AssertionError):
            close(sharded, expected)


def test_names_hold_for_all_untyped_arrays():
    pair = gradients(0)
    sharded = project("fsdp", "data", check_vma=False)(pair)
    close(sharded, jax.jit(project_conflict)(pair))


def test_types_say_what_is_the_same_everywhere():
    """Updates vary as the gradients do; what a state says of groups does not."""
    tx = dtnh_sgd(0.1, momentum=0.9, axis_name="model")
    where = specs("tensor")

    def update(g, r):
        updates, state = tx.update(GradientPair(g, r), tx.init(g))
        return (
            updates,
            optax.tree.get(state, "conflict"),
            optax.tree.get(state, "trace"),
        )

    jax.eval_shape(
        jax.shard_map(
            update,
            mesh=mesh("tensor", "shard_map"),
            in_specs=(where, where),
            out_specs=(where, P(), where),
        ),
        *gradients(0),
    )


def test_networks_of_their_own():
    """With ``axis_name=()`` each of eight devices is judged by itself."""
    pairs = stack(*map(gradients, range(8)))
    one = jax.vmap(functools.partial(project_conflict, axis_name=()))
    on = mesh("fsdp", "shard_map")
    sharded = jax.jit(
        jax.shard_map(one, mesh=on, in_specs=P("data"), out_specs=P("data"))
    )
    close(sharded(pairs), jax.jit(jax.vmap(project_conflict))(pairs))


def test_vmap_with_a_named_axis_adds_nothing_up():
    pairs = stack(*map(gradients, range(3)))
    named = jax.vmap(project_conflict, axis_name="seed")
    same(jax.jit(named)(pairs), jax.jit(jax.vmap(project_conflict))(pairs))
