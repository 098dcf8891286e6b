"""What compiled programs contain: one all-reduce, and no conditional around it."""

import re

import jax
import numpy as np
import optax
import pytest
from check_shard_map import TWO_AXES
from hlo import collectives
from jax.sharding import PartitionSpec as P
from layouts import gradients, mesh, network, specs

from dtnh_jax import GradientPair, dtnh, dtnh_adamw, l2, l2_sp, mix_regularizers

pytestmark = pytest.mark.usefixtures("lenient_promotion")

CONDITIONAL = re.compile(r" conditional\(")


def layerwise(axis_name=None):
    return dtnh(granularity="layer", reference_decay=0.9, axis_name=axis_name)


def steady(axis_name=None):
    mix = mix_regularizers(l2_sp(), l2(), axis_name=axis_name)
    return optax.chain(mix, dtnh_adamw(0.1, axis_name=axis_name))


def in_shard_map(tx, where, check_vma=True):
    """``tx.update`` of a pair, and of parameters; its arguments."""
    pair, params = gradients(0), network(0)
    state = tx.init(params)
    state_where = optax.tree.map_params(
        tx, lambda _, s: s, state, where, transform_non_params=lambda _: P()
    )
    update = jax.shard_map(
        tx.update,
        mesh=mesh("tensor", "shard_map"),
        in_specs=(GradientPair(where, where), state_where, where),
        out_specs=(where, state_where),
        check_vma=check_vma,
    )
    return update, (pair, state, params)


def text(function, arguments):
    return jax.jit(function).lower(*arguments).compile().as_text()


@pytest.mark.parametrize(
    ("where", "axis_name"),
    [
        (specs("data"), None),
        (specs("data"), "model"),
        (specs("fsdp"), "data"),
        (specs("tensor"), "model"),
        (TWO_AXES, ("data", "model")),
    ],
    ids=["data", "data, named", "fsdp", "tensor", "two axes"],
)
@pytest.mark.parametrize(
    ("make", "numbers"),
    [
        # <m, m>, <r, r>, <u, u> and <m, r>, of two groups.
        (layerwise, [4 * 2]),
        # Of three regularizers their norms; then <r, u> and <m, u> as well.
        (steady, [3, 6 * 2]),
    ],
)
def test_one_all_reduce(make, numbers, where, axis_name):
    """All that an update adds, and one more for a mix."""
    found = collectives(text(*in_shard_map(make(axis_name), where)))
    count = 0 if where == specs("data") else len(numbers)
    assert found.pop("all-reduce") == {
        "operations": count,
        "operands": count,
        "bytes": 4 * sum(numbers) if count else 0,
    }
    assert all(kind["operations"] == 0 for kind in found.values())


@pytest.mark.parametrize("make", [layerwise, steady])
@pytest.mark.parametrize("style", ["jit", "vmap", True, False])
def test_no_conditional(style, make):
    """``platform_dependent`` is decided before a program is compiled."""
    if style in ("jit", "vmap"):
        tx = make()
        function = tx.update
        arguments = gradients(0), tx.init(network(0)), network(0)
        if style == "vmap":
            function = jax.vmap(function)
            arguments = jax.tree.map(lambda x: np.stack([x, x]), arguments)
    else:
        where = specs("tensor")
        # Where types do not say which arrays are sharded, specs do.
        axis_name = "model" if style else where
        function, arguments = in_shard_map(make(axis_name), where, check_vma=style)
    assert not CONDITIONAL.search(text(function, arguments))


def test_the_check_sees_a_conditional():
    branches = [lambda x: x + 1, lambda x: x * 2]
    assert CONDITIONAL.search(text(lambda i: jax.lax.switch(i, branches, 1.0), (1,)))


@pytest.mark.parametrize("make", [layerwise, steady])
def test_one_program_for_all_platforms(make):
    tx = make()
    arguments = gradients(0), tx.init(network(0)), network(0)
    platforms = ("cpu", "tpu", "cuda")
    exported = jax.export.export(jax.jit(tx.update), platforms=platforms)(*arguments)
    assert exported.platforms == platforms
    assert exported.out_tree == jax.tree.structure(
        jax.eval_shape(tx.update, *arguments)
    )


@pytest.mark.parametrize(("make", "count"), [(layerwise, 1), (steady, 2)])
def test_all_reduces_on_a_tpu(make, count):
    """As lowered for it ahead of time: those that are written, and no other."""
    update, arguments = in_shard_map(make("model"), specs("tensor"))
    exported = jax.export.export(jax.jit(update), platforms=["tpu"])(*arguments)
    found = re.findall(r"stablehlo\.(all_\w+|collective_\w+)", exported.mlir_module())
    assert found == ["all_reduce"] * count
