"""``axis_name`` inside ``jax.shard_map``: what is added up over which devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import trees
from jax.sharding import PartitionSpec as P
from layouts import LAYOUTS, SHARDED_OVER, gradients, mesh, specs

from benchmarks.hlo import collectives
from dtnh_jax import GradientPair, dtnh, dtnh_sgd, project_conflict

same = functools.partial(jax.tree.map, np.testing.assert_array_equal)
close = functools.partial(trees.close, rtol=2e-6, atol=1e-6)
TWO_AXES = {  # each array over other axes than the next
    "first": {"kernel": P("data", "model"), "bias": P("data")},
    "second": {"kernel": P(None, "model"), "bias": P()},
}


def project(layout, axis_name, where=None, check_vma=True, **options):
    """``project_conflict(r, g)`` in shard_map."""
    where = where or specs(layout)
    return jax.jit(
        jax.shard_map(
            functools.partial(project_conflict, axis_name=axis_name, **options),
            mesh=mesh(layout, "shard_map"),
            in_specs=(where, where),
            out_specs=where,
            check_vma=check_vma,
        )
    )


def both(pair):
    """In the order in which ``project_conflict`` takes them."""
    return pair.regularizer, pair.empirical


@pytest.mark.parametrize(
    "granularity",
    ["layer", *(pytest.param(g, marks=pytest.mark.slow) for g in ("global", "leaf"))],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bit_for_bit_where_no_sum_is_rounded(layout, granularity):
    """Sums of small whole numbers are exact in any order: only the order differs."""
    halves = both(gradients(0, integers=True))
    sharded = project(layout, SHARDED_OVER[layout], granularity=granularity)(*halves)
    alone = jax.jit(functools.partial(project_conflict, granularity=granularity))
    same(sharded, alone(*halves))
    assert any(map(np.any, jax.tree.leaves(jax.tree.map(_differ, sharded, halves[0]))))


def _differ(a, b):
    return np.asarray(a) != np.asarray(b)


def test_bit_for_bit_where_nothing_is_divided():
    halves = both(gradients(0))
    same(project("data", None)(*halves), jax.jit(project_conflict)(*halves))


@pytest.mark.parametrize("r_scale", [1e-25, 1.0])
@pytest.mark.parametrize("elsewhere", [0.0, 1e-12, 1.0])
@pytest.mark.parametrize("g_scale", [1e-25, 1.0, 1e12])
def test_every_scale(g_scale, elsewhere, r_scale):
    """Also where squares underflow on some devices only, and on all but in the sum."""
    g, r = (
        jax.device_get(rescale(half, np.float32(elsewhere))) for half in gradients(0)
    )
    g = jax.tree.map(lambda x: x * np.float32(g_scale), g)
    r = jax.tree.map(lambda x: x * np.float32(r_scale), r)
    found = [jax.device_get(f(r, g)) for f in on_eight_and_on_one()]
    close(*jax.tree.map(lambda x: x / np.float32(r_scale), found))


@functools.cache
def on_eight_and_on_one():
    return project("tensor", "model"), jax.jit(project_conflict)


@jax.jit
def rescale(tree, factor):
    """``tree`` with what lies on all devices along ``model`` but the first scaled."""

    def times(spec, x):
        for axis, name in enumerate(spec):
            if name == "model":
                size = x.shape[axis]
                on_first = jnp.arange(size) < size // 4
                shape = [size if i == axis else 1 for i in range(x.ndim)]
                x = jnp.where(on_first.reshape(shape), x, x * factor)
        return x

    return jax.tree.map(times, specs("tensor"), tree)


@pytest.mark.parametrize("r_scale", [1e-12, 1.0])
def test_a_regularizer_that_is_zero_on_most_devices(r_scale):
    """So that its device alone sees that sums have to be scaled up."""
    g, r = gradients(0)
    r = jax.tree.map(
        lambda x: x * np.float32(r_scale), jax.device_get(rescale(r, np.float32(0)))
    )
    r["second"]["bias"] *= 0
    sharded, alone = (
        first_update(name)(GradientPair(g, r)) for name in ("model", None)
    )
    close(sharded, alone)
    assert alone[1].removed[0] > 0.1


@functools.cache
def first_update(axis_name):
    """A first update and what it finds; in shard_map, if ``axis_name`` is given."""
    tx = dtnh(axis_name=axis_name)

    def first(pair):
        updates, state = tx.update(pair, tx.init(pair.empirical))
        return updates, state.conflict

    if axis_name is None:
        return jax.jit(first)
    on, where = mesh("tensor", "shard_map"), specs("tensor")
    pair = GradientPair(where, where)
    return jax.jit(
        jax.shard_map(first, mesh=on, in_specs=(pair,), out_specs=(where, P()))
    )


def test_a_replicated_array_counts_once():
    """The last bias lies on all; here it alone decides that there is a conflict."""
    zero = jax.tree.map(np.zeros_like, gradients(0).empirical)
    g, r = (jax.tree.map(np.copy, zero) for _ in range(2))
    g["second"]["bias"] += 1
    r["second"]["bias"] -= 1
    g["first"]["bias"] += 1
    r["first"]["bias"] += 0.75
    # <g, r> = 12 - 8: no conflict, but 12 - 4 * 8 if it were counted on each device.
    same(on_eight_and_on_one()[0](r, g), r)


@pytest.mark.parametrize("axis_name", [("data", "model"), TWO_AXES])
@pytest.mark.parametrize("check_vma", [True, False])
def test_two_axes(axis_name, check_vma):
    """With untyped arrays names hold for all, and only specs say which are whole."""
    halves = both(gradients(0))
    sharded = project("tensor", axis_name, TWO_AXES, check_vma)(*halves)
    expected = jax.jit(project_conflict)(*halves)
    if check_vma or axis_name is TWO_AXES:
        close(sharded, expected)
    else:
        with pytest.raises(AssertionError):
            close(sharded, expected)


def test_names_hold_for_all_untyped_arrays():
    halves = both(gradients(0))
    sharded = project("fsdp", "data", check_vma=False)(*halves)
    close(sharded, jax.jit(project_conflict)(*halves))


@pytest.mark.parametrize(
    ("where", "axis_name", "count"),
    [
        (specs("data"), None, 0),
        (specs("data"), "model", 0),
        (specs("fsdp"), "data", 1),
        (specs("tensor"), "model", 1),
        (TWO_AXES, ("data", "model"), 1),
    ],
    ids=["data", "data, named", "fsdp", "tensor", "two axes"],
)
def test_one_all_reduce(where, axis_name, count):
    """All that a whole update adds; of both sums of two groups, 2 x 3 x 2 numbers."""
    make = functools.partial(dtnh, granularity="layer", reference_decay=0.9)
    tx, pair = make(axis_name=axis_name), gradients(0)
    state = tx.init(pair.empirical)
    state_where = optax.tree.map_params(
        tx, lambda _, s: s, state, where, transform_non_params=lambda _: P()
    )
    compiled = (
        jax.jit(
            jax.shard_map(
                tx.update,
                mesh=mesh("tensor", "shard_map"),
                in_specs=(GradientPair(where, where), state_where),
                out_specs=(where, state_where),
            )
        )
        .lower(pair, state)
        .compile()
    )
    found = collectives(compiled.as_text())
    reduce = found.pop("all-reduce")
    assert reduce == {"operations": count, "operands": count, "bytes": 48 * count}
    assert all(kind["operations"] == 0 for kind in found.values())


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
    each = [both(gradients(seed)) for seed in range(8)]
    stacked = trees.stack(*each)

    def one(r, g):
        return jax.vmap(functools.partial(project_conflict, axis_name=()))(r, g)

    on = mesh("fsdp", "shard_map")
    sharded = jax.jit(
        jax.shard_map(one, mesh=on, in_specs=P("data"), out_specs=P("data"))
    )
    close(sharded(*stacked), jax.jit(jax.vmap(project_conflict))(*stacked))


def test_vmap_with_a_named_axis_adds_nothing_up():
    each = [both(gradients(seed)) for seed in range(3)]
    stacked = trees.stack(*each)
    named = jax.vmap(project_conflict, axis_name="seed")
    same(jax.jit(named)(*stacked), jax.jit(jax.vmap(project_conflict))(*stacked))
