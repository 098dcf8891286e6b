"""The programs that are compared do what they are said to do."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.programs import rules, shapes, steps, updates
from benchmarks.programs.networks import Network, Size
from benchmarks.rows import Pair, measured
from benchmarks.timing import Function
from dtnh_jax import GradientPair, dtnh, l2_sp

# AdamW in Optax needs JAX's own promotion.
pytestmark = pytest.mark.usefixtures("lenient_promotion")

close = functools.partial(chex.assert_trees_all_close, rtol=1e-5, atol=2e-5)


def tree(seed):
    rng = np.random.default_rng(seed)
    return {
        "body": {"kernel": jnp.asarray(rng.standard_normal((3, 4)), jnp.float32)},
        "head": {"kernel": jnp.asarray(rng.standard_normal((4, 2)), jnp.float32)},
    }


def conflict(sign):
    g, noise = tree(0), tree(1)
    r = jax.tree.map(lambda x, n: sign * x + 0.5 * n, g, noise)
    return GradientPair(empirical=g, regularizer=r)


def update(tx, *given):
    return tx.update(given[0], tx.init(tree(2)), *given[1:])[0]


@pytest.mark.parametrize("sign", [-1, 1])
def test_naive_surgery_is_dtnh(sign):
    pair = conflict(sign)
    close(update(rules.naive_surgery(0.5), pair), update(dtnh(0.5), pair))


def test_l2_sp_by_hand_is_l2_sp_without_a_projection():
    new, w = {"head": True}, tree(3)
    plain = optax.chain(
        l2_sp(0.5, pretrained=tree(4), new=new), dtnh(on_conflict="ignore")
    )
    by_hand = rules.l2_sp_by_hand(0.5, tree(4), "head")
    close(update(by_hand, tree(0), w), update(plain, tree(0), w))


def test_shapes():
    millions = {x: shapes.size(y) / 1e6 for x, y in shapes.networks().items()}
    # With 100 classes, and without a token for the class.
    expected = {"GPT-2": 124.4, "ViT-B/16": 85.9, "ResNet-50": 23.7}
    assert millions == pytest.approx(expected, abs=0.1)


def test_a_measurement():
    """Of the functions asked for, compiled as often as there is time for."""
    x = jnp.ones(3)

    def make():
        return Function(lambda x: x + 1, (x,))

    found = measured({"a": make, "b": make}, seconds=0, compilations=3, patience=60)
    assert [len(y) for y in found.compile_s.values()] == [3, 3]
    (row,) = found.rows("time", "case", [Pair("a", "b")], axis=("n", 2))
    assert (row["n"], row["limit"], len(row["figures"]["ms"])) == (2, None, 2)
    impatient = measured({"a": make}, seconds=0, compilations=3, patience=0)
    assert [len(y) for y in impatient.compile_s.values()] == [1]


def test_updates_of_shapes_are_those_of_arrays():
    for make in updates.OPTIMIZERS.values():
        given = shapes.TINY["tiny"]
        kinds = shapes.abstract(given, np.float32), shapes.random(given, 0, np.float32)
        abstract, concrete = (updates.optimized(make, x, x).args for x in kinds)
        same = jax.tree.map(lambda a, b: a.shape == b.shape, abstract, concrete)
        assert all(jax.tree.leaves(same))


# Compiling a whole network takes most of a minute.
@pytest.fixture(scope="module")
def tiny():
    return Network("tiny ViT", Size(8, 2))


def _stepped(made):
    call, args, _ = made()
    return jax.jit(call)(*args)[0].params


@pytest.mark.slow
def test_without_projection_dtnh_is_what_it_is_compared_with(tiny, monkeypatch):
    rule = steps.dtnh
    monkeypatch.setattr(steps, "dtnh", lambda *args: rule(*args, on_conflict="ignore"))
    # Adam would make much of what is left by rounding.
    monkeypatch.setattr(steps, "_optimizer", lambda network: optax.sgd(10.0))
    for made, reference in (
        (steps.l2_sp_steps(tiny), "by hand"),
        (steps.distillation_steps(tiny), "joint loss"),
        (steps.distillation_steps(tiny, teacher_in_step=True), "joint loss"),
    ):
        expected = _stepped(made[reference])
        close(_stepped(made["dtnh"]), expected)
    with pytest.raises(AssertionError):
        close(_stepped(steps.l2_sp_steps(tiny)["no regularizer"]), expected)


@pytest.mark.slow
def test_no_tree_of_parameters_is_a_constant(tiny):
    """They are arguments of the compiled step; a new head has no anchor."""
    call, args, _ = steps.l2_sp_steps(tiny)["dtnh"]()
    params, _ = tiny.pretrained
    assert args[0].opt_state[0].anchor["head"] == dict.fromkeys(params["head"])
    constants = jax.make_jaxpr(call)(*args).consts
    numbers = [x for x in constants if jnp.issubdtype(x.dtype, jnp.inexact)]
    assert all(x.size == 1 for x in numbers)
