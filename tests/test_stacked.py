"""``stacked``: one network, unrolled and scanned, gets one and the same update."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from samplers import stack

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
from dtnh_jax._groups import divide

pytestmark = pytest.mark.usefixtures("lenient_promotion")

LAYERS, STEPS = 3, 4


def network(rng):
    """Unrolled: ``LAYERS`` blocks of a matrix and a gain, and a head."""
    shapes = {"w": (4, 2), "gain": ()}
    return {
        "blocks": [
            {k: rng.standard_normal(s, np.float32) for k, s in shapes.items()}
            for _ in range(LAYERS)
        ],
        "head": {"w": rng.standard_normal((2, 5), np.float32)},
    }


def scanned(tree, axes):
    """The same with the blocks stacked, each array along its axis."""
    blocks = {
        k: jnp.stack([block[k] for block in tree["blocks"]], axis)
        for k, axis in axes.items()
    }
    return {"blocks": blocks, "head": jax.tree.map(jnp.asarray, tree["head"])}


FIRST, SEVERAL = {"w": 0, "gain": 0}, {"w": 2, "gain": -1}
LABELS = {"blocks": [f"block[{i}]" for i in range(LAYERS)], "head": "head"}
ADAM = {"reference_decay": 0.5, "max_ratio": 0.3, "inner": optax.scale_by_adam()}
# `stacked` and the axes that it means, the granularities unrolled and scanned, options
# of dtnh, and what makes the pair.
CASES = {
    "function": (
        (lambda tree: {"blocks": SEVERAL, "head": None}, SEVERAL),
        ("layer", "layer"),
        {},
        None,
    ),
    "negative": (
        ({"blocks": {"w": -2, "gain": -1}}, {"w": 1, "gain": 0}),
        ("layer", "layer"),
        {"on_conflict": "drop", "max_ratio": 0.7},
        None,
    ),
    "leaf": (
        ({"blocks": 0}, FIRST),
        ("leaf", "leaf"),
        {"reference_decay": 0.9, "max_ratio": 1.0},
        l2_sp(0.5),
    ),
    "labels": (
        ({"blocks": np.int64(0)}, FIRST),
        (LABELS, {"blocks": "block", "head": "head"}),
        ADAM,
        l2_sp(0.5),
    ),
    "mix": (
        ({"blocks": SEVERAL}, SEVERAL),
        ("layer", "layer"),
        ADAM,
        mix_regularizers(l2_sp(), l2(), weights=[1.0, 0.5]),
    ),
}


def run(tx, maker, params, pairs):
    """The updates of all steps, and the reports, over time."""
    tx = optax.chain(maker, tx) if maker else tx

    def step(carry, pair):
        params, state = carry
        updates, state = tx.update(pair.empirical if maker else pair, state, params)
        params = jax.tree.map(lambda w, u: w - 0.1 * u, params, updates)
        return (params, state), (updates, state)

    start = params, tx.init(params)
    updates, states = jax.jit(lambda pairs: jax.lax.scan(step, start, pairs)[1])(pairs)
    return updates, conflict_report(states)


@pytest.mark.parametrize("case", CASES)
def test_unrolled_and_scanned_are_the_same(case):
    (said, axes), granularities, options, maker = CASES[case]
    rng = np.random.default_rng(1)
    params, *gradients = (network(rng) for _ in range(1 + 2 * STEPS))
    found = []
    for form, granularity, stacked in (
        (lambda tree: tree, granularities[0], None),
        (lambda tree: scanned(tree, axes), granularities[1], said),
    ):
        tx = dtnh(0.8, granularity=granularity, stacked=stacked, **options)
        g, r = (
            stack(*map(form, half)) for half in (gradients[:STEPS], gradients[STEPS:])
        )
        found.append(run(tx, maker, form(params), GradientPair(g, r)))
    (updates, report), (scanned_updates, scanned_report) = found
    # Of what is stacked over time too.
    later = {name: axis if axis < 0 else axis + 1 for name, axis in axes.items()}
    chex.assert_trees_all_close(
        scanned_updates, scanned(updates, later), rtol=1e-4, atol=2e-6
    )
    report = {
        re.sub(r"blocks/(\d)(.*)", r"blocks\2[\1]", name): x
        for name, x in report.items()
    }
    # A small array can be opposed outright, where rounding hides how long the rest is.
    pulls = [{k: x.pop("pull") for k, x in r.items()} for r in (scanned_report, report)]
    chex.assert_trees_all_close(*pulls, rtol=1e-4, atol=1e-3)
    chex.assert_trees_all_close(scanned_report, report, rtol=1e-4, atol=2e-6)
    assert 0 < np.mean([x["rate"][-1] for x in report.values()]) < 1


def test_values_of_two_layers():
    """Together the two are not in conflict; the first layer alone is."""
    pair = GradientPair(
        *({"w": jnp.array(x, jnp.float32)} for x in ([[1, 0]] * 2, [[-1, 1], [2, 1]]))
    )
    for stacked, expected in ((None, [[0, 1], [3, 1]]), ({"w": 0}, [[1, 1], [3, 1]])):
        tx = dtnh(granularity="layer", stacked=stacked)
        d, _ = tx.update(pair, tx.init(pair.empirical))
        np.testing.assert_allclose(d["w"], expected, 1e-6)
        r = project_conflict(pair, granularity="layer", stacked=stacked)
        np.testing.assert_allclose(r["w"], np.array(expected) - [1, 0], atol=1e-6)


@pytest.mark.parametrize(("scale", "kept"), [(1e-16, 1), (1e-15, 0)])
def test_a_slice_counts_as_zero_as_a_whole_array_does(scale, kept):
    g = {"w": jnp.full((64, 4), scale)}
    r = jax.tree.map(lambda x: -jnp.ones_like(x), g)
    found = project_conflict(GradientPair(g, r), granularity="layer", stacked={"w": 0})
    np.testing.assert_allclose(found["w"], kept * r["w"], atol=1e-6)


ARRAYS = {"a": np.ones((2, 3)), "b": np.ones((3, 2)), "c": np.ones(2)}


@pytest.mark.parametrize(
    ("granularity", "stacked", "names"),
    [
        ("layer", 0, ["[0 of 2]", "[1 of 2]", "[0 of 3]", "[1 of 3]", "[2 of 3]"]),
        ("layer", {"a": 0, "c": 0}, ["[0]", "[1]", ""]),
        ("layer", {"a": 1, "b": -2}, ["[0]", "[1]", "[2]", ""]),
        ("layer", {"a": None}, [""]),
        ("leaf", {"b": 1}, ["a", "b[0]", "b[1]", "c"]),
        ({"a": "x", "b": "y", "c": "x"}, {"a": -2, "c": -1}, ["x[0]", "x[1]", "y"]),
    ],
)
def test_names_and_what_goes_together(granularity, stacked, names):
    """Slices of one number go together, in arrays of one label and of one length."""
    root = "(root)" if granularity == "layer" else ""
    found = divide(ARRAYS, granularity, stacked)
    assert found.names == tuple(root + name for name in names)


def test_a_label_of_stacked_and_whole_arrays():
    """Of one label, the slices are groups and what is not stacked is another."""
    rng = np.random.default_rng(0)
    g, r = (
        {k: rng.standard_normal(x.shape, np.float32) for k, x in ARRAYS.items()}
        for _ in range(2)
    )
    pair = GradientPair(g, r)
    labels = dict.fromkeys("abc", "one")
    found = project_conflict(pair, granularity=labels, stacked={"a": 0, "b": 1})
    cut = lambda t: [[t["a"][i], t["b"][:, i]] for i in range(2)] + [[t["c"]]]  # noqa: E731
    expected = [
        project_conflict(GradientPair(*halves))
        for halves in zip(cut(g), cut(r), strict=True)
    ]
    chex.assert_trees_all_close(cut(found), expected, rtol=1e-5)


@pytest.mark.parametrize("stacked", [0, {"a": 1}])
def test_slices_of_nothing(stacked):
    empty = {"a": jnp.zeros((0, 0)), "w": jnp.ones((1, 2))}
    pair = GradientPair(empty, jax.tree.map(lambda x: -x, empty))
    tx = dtnh(granularity="layer", stacked=stacked, reference_decay=0.9, max_ratio=1.0)
    d, state = tx.update(pair, tx.init(empty))
    chex.assert_trees_all_equal(d, empty)
    assert len(conflict_report(state)) == 1


@pytest.mark.parametrize(
    ("granularity", "stacked", "says"),
    [
        ("layer", {"a": 2}, "axis 2 at ['a'], where the array has shape (2, 3)"),
        ("layer", {"c": -2}, "axis -2 at ['c']"),
        ("layer", 1, "axis 1 at ['c'], where the array has shape (2,)"),
        ("layer", {"a": 0.0}, "must be integers, got 0.0 at ['a']"),
        ("layer", {"a": True}, "must be integers, got True at ['a']"),
        ("layer", "blocks", "must be integers, got 'blocks' at ['a']"),
        ("layer", {"a": [0]}, "entry at ['a'][0] that matches nothing"),
        ("layer", lambda tree: {"d": 0}, "entry at ['d'] that matches"),
        ("global", {"a": 0}, 'with `granularity="global"`'),
    ],
)
def test_axes_that_are_none(granularity, stacked, says):
    with pytest.raises((TypeError, ValueError), match=f"`stacked`.*{re.escape(says)}"):
        dtnh(granularity=granularity, stacked=stacked).init(ARRAYS)


def test_a_network_of_nnx_and_its_unrolled_twin():
    """Blocks made by ``nnx.vmap`` and called in ``nnx.scan``."""
    nnx = pytest.importorskip("flax.nnx")

    class Block(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(4, 4, rngs=rngs)
            self.norm = nnx.LayerNorm(4, rngs=rngs)

        def __call__(self, x):
            return x + jnp.tanh(self.dense(self.norm(x)))

    keys = jax.random.split(jax.random.key(0), LAYERS)
    blocks = nnx.vmap(lambda key: Block(nnx.Rngs(key)))(keys)
    graphdef, state = nnx.split(blocks)
    layers = nnx.List(
        nnx.merge(graphdef, jax.tree.map(lambda x, i=i: x[i], state))
        for i in range(LAYERS)
    )
    x, y = np.random.default_rng(0).standard_normal((2, 5, 4), np.float32)

    def one_by_one(layers, x):
        for layer in layers:
            x = layer(x)
        return x

    in_a_scan = nnx.scan(
        lambda block, x: block(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry
    )
    found = []
    for model, call, stacked in ((layers, one_by_one, None), (blocks, in_a_scan, 0)):
        tx = optax.chain(l2_sp(), dtnh_adamw(0.05, stacked=stacked))
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

        @nnx.jit
        def step(model, optimizer, call=call):
            g = nnx.grad(lambda model: jnp.mean((call(model, x) - y) ** 2))(model)
            optimizer.update(model, g)

        for _ in range(STEPS):
            step(model, optimizer)
        found.append(
            (nnx.to_pure_dict(nnx.state(model)), conflict_report(optimizer.opt_state))
        )
    (unrolled, report), (scanned_one, other) = found
    together = stack(*unrolled.values())
    chex.assert_trees_all_close(scanned_one, together, rtol=1e-4, atol=1e-5)
    for kind in ("dense", "norm"):
        for i in range(LAYERS):
            expected, values = report[f"{i}/{kind}"], other.pop(f"{kind}[{i}]")
            chex.assert_trees_all_close(values, expected, rtol=1e-2, atol=1e-3)
    assert not other
