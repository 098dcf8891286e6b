"""What compiled programs contain: one all-reduce, and no conditional around it."""

import jax
import numpy as np
import optax
import pytest
from layouts import TWO_AXES, collectives, gradients, in_shard_map, network, specs

from dtnh_jax import dtnh_adamw, l2, l2_sp, mix_regularizers

pytestmark = pytest.mark.usefixtures("lenient_promotion")


def steady(axis_name=None):
    mix = mix_regularizers(l2_sp(), l2(), axis_name=axis_name)
    return optax.chain(mix, dtnh_adamw(0.1, axis_name=axis_name))


def given(tx):
    """The arguments of ``tx.update``."""
    return gradients(0), tx.init(network(0)), network(0)


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
def test_one_all_reduce(where, axis_name):
    """All that an update adds, and one more for a mix."""
    tx = steady(axis_name)
    update = in_shard_map(tx, network(0), where)
    found = list(collectives(text(update, given(tx))))
    # Of three regularizers their norms; then <m, m>, <r, r>, <u, u>, <m, r>, <r, u> and
    # <m, u> of two groups.
    numbers = [] if where == specs("data") else [3, 6 * 2]
    assert found == [("all-reduce", n) for n in numbers]


@pytest.mark.parametrize("style", ["jit", "vmap", "shard_map"])
def test_no_conditional(style):
    """``platform_dependent`` is decided before a program is compiled."""
    if style == "shard_map":
        where = specs("tensor")
        tx = steady(where)
        function = in_shard_map(tx, network(0), where, check_vma=False)
    else:
        tx = steady()
        function = tx.update
    arguments = given(tx)
    if style == "vmap":
        function = jax.vmap(function)
        arguments = jax.tree.map(lambda x: np.stack([x, x]), arguments)
    assert " conditional(" not in text(function, arguments)
