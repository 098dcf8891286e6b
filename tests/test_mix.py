"""``mix_regularizers`` against NumPy, and in the chains that it is made for."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from samplers import at, normal, stack, zeros

from dtnh_jax import (
    GradientPair,
    conflict_report,
    dtnh,
    dtnh_adamw,
    dtnh_sgd,
    l2,
    l2_sp,
    mix_regularizers,
)

SHAPES = {"body": {"w": (3, 4), "b": (4,)}, "head": ()}


def decay(alpha=1.0):
    """Of all arrays, those without axes too."""
    return l2(alpha, mask=True)


def mixed(members, weights=None):
    """The oracle, in float64."""
    wide = [
        jax.tree.map(lambda x: np.asarray(x).astype(np.complex128), m) for m in members
    ]
    weights = [1.0] * len(wide) if weights is None else weights
    leaves = list(map(jax.tree.leaves, members))
    count = sum(x.size * (2 if np.iscomplexobj(x) else 1) for x in leaves[0])
    squares = [sum(np.sum(np.abs(x) ** 2) for x in jax.tree.leaves(m)) for m in wide]
    sizes = [np.sqrt(square / count) for square in squares]
    scales = [w / n if n else 0.0 for w, n in zip(weights, sizes, strict=True)]
    total = jax.tree.map(
        lambda *x: sum(s * y for s, y in zip(scales, x, strict=True)), *wide
    )
    real = all(np.isrealobj(x) for x in jax.tree.leaves(members))
    return jax.tree.map(lambda x: x.real if real else x, total)


G, START, PARAMS, R = (normal(seed, SHAPES) for seed in range(4))
AWAY = jax.tree.map(jnp.subtract, PARAMS, START)


def cubic():
    """A user's own: the gradient of the fourth power, and a count as its state."""

    def update(updates, state, params=None):
        r = jax.tree.map(lambda w: w**3, params)
        return GradientPair(updates, r), state + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), int), update)


CUBES = jax.tree.map(lambda w: w**3, PARAMS)
TWO, THREE = [AWAY, PARAMS], [AWAY, PARAMS, R]
# Makers, what `update` is given, weights; and the members.
MIXES = {
    "two": ((l2_sp(), decay()), "plain", None, TWO),
    "array of weights": ((l2_sp(), decay()), "plain", np.array([3.0, 0.0]), TWO),
    "scaled": ((l2_sp(1e9), decay(1e-9)), "plain", None, TWO),
    "three": ((l2_sp(), decay()), "pair", None, THREE),
    "three weights": ((l2_sp(), decay()), "keyword", (1, 2.0, 0.25), THREE),
    "no makers": ((), "pair", [3.0], [R]),
    "own": ((cubic(), l2_sp()), "plain", None, [CUBES, AWAY]),
    "nested": (
        (mix_regularizers(l2_sp(), decay(), weights=[1, 2]), decay()),
        "plain",
        None,
        [mixed(TWO, [1, 2]), PARAMS],
    ),
}


def given(form, g=G, r=R):
    """What ``update`` gets, and its keywords."""
    return {
        "plain": (g, {}),
        "pair": (GradientPair(g, r), {}),
        "keyword": (g, {"regularizer_grads": r}),
    }[form]


@pytest.mark.parametrize("name", MIXES)
def test_is_the_weighted_sum_of_unit_gradients(name):
    makers, form, weights, members = MIXES[name]
    tx = mix_regularizers(*makers, weights=weights)

    def run(g, r, params):
        updates, keywords = given(form, g, r)
        return tx.update(updates, tx.init(START), params, **keywords)

    eager = run(G, R, PARAMS)
    mapped = jax.jit(jax.vmap(run, in_axes=(0, None, None)))(stack(G, G), R, PARAMS)
    for pair, state in (eager, at(mapped, 1)):
        assert isinstance(pair, GradientPair)
        chex.assert_trees_all_equal(pair.empirical, G)
        expected = mixed(members, weights)
        chex.assert_trees_all_close(pair.regularizer, expected, rtol=2e-5, atol=1e-6)
        if name == "own":
            assert state.makers[0] == 1


DTYPES = {
    "bfloat16": 2**-8,
    "complex64": 2e-6,
    "float64": 1e-14,
}


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype):
    with jax.enable_x64(dtype == "float64"):
        g, start, params, r = (
            normal(seed, SHAPES, jnp.dtype(dtype)) for seed in range(4)
        )
        tx = mix_regularizers(l2_sp(), decay(), weights=[1.0, 0.5, 2.0])
        pair, _ = jax.jit(tx.update)(GradientPair(g, r), tx.init(start), params)
        chex.assert_trees_all_equal_dtypes(pair.regularizer, r)
        away = jax.tree.map(jnp.subtract, params, start)
        chex.assert_trees_all_close(
            jax.tree.map(lambda x: np.asarray(x).astype(np.complex128), pair[1]),
            jax.tree.map(np.complex128, mixed([away, params, r], [1, 0.5, 2])),
            rtol=0,
            atol=8 * DTYPES[dtype],
        )


def update(*makers, form="plain", g=G, r=R, start=START, params=PARAMS, **options):
    """One update of a mix."""
    tx = mix_regularizers(*makers, **options)
    updates, keywords = given(form, g, r)
    return tx.update(updates, tx.init(start), params, **keywords)[0]


def test_float32_beside_bfloat16():
    """Each array as precise as its most precise member."""
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), G)
    chex.assert_trees_all_equal_dtypes(tuple(update(decay(), g=half)), (half, PARAMS))
    pair = update(decay(), form="pair", r=half)
    chex.assert_trees_all_equal_dtypes(tuple(pair), (G, G))


@pytest.mark.parametrize("size", [0.0, 1e-25])
def test_a_member_that_is_zero_or_as_good_adds_nothing(size):
    """At the anchor the L2-SP gradient is zero, and there is no NaN."""
    near = jax.tree.map(lambda x: size * x, R)
    pair = update(l2_sp(), decay(), form="pair", r=near, start=PARAMS)
    chex.assert_trees_all_equal(pair, update(decay()))
    alone = update(l2_sp(), start=PARAMS)
    chex.assert_trees_all_equal(alone.regularizer, zeros(R))


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_any_scale_that_floats_have_gives_unit_norm(scale):
    pair = update(form="pair", r=jax.tree.map(lambda x: scale * x, R))
    chex.assert_trees_all_close(pair.regularizer, mixed([R]), rtol=1e-5)


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e25])
@pytest.mark.parametrize("whose", ["r", "params"])
def test_what_is_not_finite_is_not_swallowed(value, whose):
    """And a norm that overflows does not count as zero."""
    broken = {whose: (R if whose == "r" else PARAMS) | {"head": jnp.float32(value)}}
    pair = update(l2_sp(), decay(), form="pair", **broken)
    assert not all(np.isfinite(x).all() for x in jax.tree.leaves(pair.regularizer))
    chex.assert_trees_all_equal(pair.empirical, G)


@pytest.mark.parametrize("tree", [{}, {"a": None, "b": optax.MaskedNode()}])
def test_a_tree_without_arrays(tree):
    """As ``optax.partition`` makes for a label that no array has."""
    tx = mix_regularizers(l2_sp(), l2())
    pair, _ = tx.update(tree, tx.init(tree), tree)
    assert pair == (tree, tree)


def test_no_gradient_no_regularizer():
    def only_bias(tree):
        return {"body": {"w": None, "b": tree["body"]["b"]}, "head": None}

    pair = update(l2_sp(), decay(), g=only_bias(G))
    expected = mixed([only_bias(AWAY), only_bias(PARAMS)])
    chex.assert_trees_all_close(pair.regularizer, expected, rtol=1e-5)


# Before an optimizer.


@pytest.mark.usefixtures("lenient_promotion")
@pytest.mark.parametrize(
    ("form", "make"),
    [
        ("plain", lambda: dtnh_adamw(1e-3)),
        ("pair", lambda: optax.chain(dtnh(0.1), optax.sgd(0.1))),
        ("keyword", lambda: dtnh_sgd(0.1, momentum=0.9, granularity="leaf")),
    ],
)
def test_the_optimizer_gets_the_mixture_once(form, make):
    """``chain`` passes the keyword to the optimizer too, in which r is already."""
    tx, by_hand = optax.chain(mix_regularizers(l2_sp(), decay()), make()), make()
    state, expected_state = tx.init(START), by_hand.init(START)
    update, update_by_hand = jax.jit(tx.update), jax.jit(by_hand.update)
    for step in range(3):
        params, g, r = (normal(10 * k + step, SHAPES) for k in (1, 2, 3))
        updates, keywords = given(form, g, r)
        d, state = update(updates, state, params, **keywords)
        away = jax.tree.map(jnp.subtract, params, START)
        members = [away, params] if form == "plain" else [away, params, r]
        pair = GradientPair(g, jax.tree.map(jnp.float32, mixed(members)))
        expected, expected_state = update_by_hand(pair, expected_state, params)
        chex.assert_trees_all_close(d, expected, rtol=1e-4, atol=1e-6)
    report, by_hand = map(conflict_report, (state, expected_state))
    chex.assert_trees_all_close(report, by_hand, rtol=1e-3, atol=1e-4)


def test_the_keyword_counts_once_after_what_keeps_the_pair_apart():
    """Transformations between the two map over pairs, which stay marked as mixed."""
    tx = optax.chain(mix_regularizers(decay()), optax.clip(0.1), dtnh())
    d, _ = tx.update(G, tx.init(START), PARAMS, regularizer_grads=R)
    clipped = jax.tree.map(
        lambda x: jnp.clip(jnp.float32(x), -0.1, 0.1),
        GradientPair(G, mixed([PARAMS, R])),
    )
    e, _ = dtnh().update(clipped, dtnh().init(START))
    chex.assert_trees_all_close(d, e, rtol=1e-5, atol=1e-7)
    tx = optax.chain(decay(), dtnh())
    with pytest.raises(ValueError, match="given twice"):
        tx.update(G, tx.init(START), PARAMS, regularizer_grads=R)


def test_meta_gradients():
    """The mixture can be differentiated, as by what learns a weight."""

    def length(weight):
        tx = mix_regularizers(l2_sp(), decay(), weights=[weight, 1.0])
        pair, _ = tx.update(G, tx.init(START), PARAMS)
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(pair.regularizer))

    both = mixed([AWAY]), mixed([PARAMS])
    product = sum(
        np.sum(x * y) for x, y in zip(*map(jax.tree.leaves, both), strict=True)
    )
    slope = sum(x.size for x in jax.tree.leaves(G)) + 2 * product
    np.testing.assert_allclose(jax.jit(jax.grad(length))(0.5), slope, 1e-4)


def twice():
    tx = mix_regularizers(decay())
    pair = GradientPair(G, R)
    return tx.update(pair, tx.init(G), PARAMS, regularizer_grads=R)


OTHER_SHAPE, HEADLESS = R | {"head": jnp.ones(2)}, {"body": R["body"]}
REFUSED = {
    "`makers[0]` must be an optax.GradientTransformation, got [": lambda: update(
        [l2()]
    ),
    "`makers[1]` must be an optax": lambda: update(decay(), l2),
    "`weights` must be a sequence of numbers, got 0.5": lambda: update(weights=0.5),
    "`weights[0]` must be a real number": lambda: update(decay(), weights="1"),
    "`weights[1]` must be non-negative and finite, got -1": lambda: update(
        decay(), decay(), weights=[1, -1]
    ),
    "`weights[0]` must be non-negative and finite, got nan": lambda: update(
        weights=[np.nan]
    ),
    "`weights` has 3 entries for 1 regularizers: pass one per maker": lambda: update(
        decay(), weights=[1, 1, 1]
    ),
    "`weights` has 1 entries for 2 regularizers": lambda: update(
        decay(), form="pair", weights=[1]
    ),
    "`weights` has 2 entries for 1 regularizers": lambda: update(
        decay(), weights=[1, 1]
    ),
    "has nothing to mix": lambda: update(),
    "makers[1] must turn a gradient into a GradientPair, as l2_sp() does; it returned "
    "dict": lambda: update(decay(), optax.sgd(0.1)),
    "dtnh needs two gradients": lambda: update(dtnh()),
    "regularizer gradient has shape (2,) at ['head'], empirical gradient ()": lambda: (
        update(decay(), form="pair", r=OTHER_SHAPE)
    ),
    "regularizer gradient has nothing at ['head']": lambda: update(
        decay(), form="keyword", r=HEADLESS
    ),
    "given twice": twice,
    "l2 needs the parameters": lambda: update(decay(), params=None),
    "`axis_name` must be the": lambda: update(axis_name=3),
}


@pytest.mark.parametrize("says", REFUSED)
def test_refused_with_words(says):
    with pytest.raises((TypeError, ValueError), match=re.escape(says)):
        REFUSED[says]()
