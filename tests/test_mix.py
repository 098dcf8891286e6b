"""``mix_regularizers`` against NumPy, and in the chains that it is made for."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

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
is_shape = lambda x: isinstance(x, tuple)  # noqa: E731


def tree(seed, dtype=np.float32):
    rng = np.random.default_rng(seed)

    def draw(shape):
        x = rng.standard_normal(shape)
        if np.issubdtype(dtype, np.complexfloating):
            x = x + 1j * rng.standard_normal(shape)
        return jnp.asarray(x, dtype)

    return jax.tree.map(draw, SHAPES, is_leaf=is_shape)


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


G, START, PARAMS, R = (tree(seed) for seed in range(4))
AWAY = jax.tree.map(jnp.subtract, PARAMS, START)


def cubic():
    """A user's own: the gradient of the fourth power, and a count as its state."""

    def update(updates, state, params=None):
        r = jax.tree.map(lambda w: w**3, params)
        return GradientPair(updates, r), state + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), int), update)


CUBES = jax.tree.map(lambda w: w**3, PARAMS)
# Makers, whether a regularizer gradient is given too, weights; and the members.
MIXES = {
    "two": ((l2_sp(), decay()), False, None, [AWAY, PARAMS]),
    "weights": ((l2_sp(), decay()), False, [0.5, 2], [AWAY, PARAMS]),
    "array of weights": (
        (l2_sp(), decay()),
        False,
        np.array([3.0, 0.0]),
        [AWAY, PARAMS],
    ),
    "scaled": ((l2_sp(1e9), decay(1e-9)), False, None, [AWAY, PARAMS]),
    "one": ((decay(),), False, None, [PARAMS]),
    "three": ((l2_sp(), decay()), True, None, [AWAY, PARAMS, R]),
    "three weights": (
        (l2_sp(), decay()),
        True,
        (1.0, 2.0, 0.25),
        [AWAY, PARAMS, R],
    ),
    "no makers": ((), True, [3.0], [R]),
    "own": ((cubic(), l2_sp()), False, None, [CUBES, AWAY]),
    "nested": (
        (mix_regularizers(l2_sp(), decay(), weights=[1, 2]), decay()),
        False,
        None,
        [mixed([AWAY, PARAMS], [1, 2]), PARAMS],
    ),
}


def given(form, g=G, r=R):
    """What ``update`` gets, and its keywords."""
    return {
        "plain": (g, {}),
        "pair": (GradientPair(g, r), {}),
        "keyword": (g, {"regularizer_grads": r}),
    }[form]


@pytest.mark.parametrize("how", ["eager", "jit", "vmap"])
@pytest.mark.parametrize(
    ("name", "form"),
    [
        (name, form)
        for name, (_, extra, *_) in MIXES.items()
        for form in (("pair", "keyword") if extra else ("plain",))
    ],
)
def test_is_the_weighted_sum_of_unit_gradients(name, form, how):
    makers, _, weights, members = MIXES[name]
    tx = mix_regularizers(*makers, weights=weights)

    def run(g, r, params):
        updates, keywords = given(form, g, r)
        return tx.update(updates, tx.init(START), params, **keywords)

    if how == "vmap":
        run = jax.vmap(run, in_axes=(0, None, None))
    run = run if how == "eager" else jax.jit(run)
    pair, state = run(
        jax.tree.map(lambda x: x[None], G) if how == "vmap" else G, R, PARAMS
    )
    if how == "vmap":
        pair, state = jax.tree.map(lambda x: x[0], (pair, state))
    assert isinstance(pair, GradientPair)
    chex.assert_trees_all_equal(pair.empirical, G)
    expected = mixed(members, weights)
    chex.assert_trees_all_close(pair.regularizer, expected, rtol=2e-5, atol=1e-6)
    if name == "own":
        assert state.makers[0] == 1


DTYPES = {
    "float32": 2e-6,
    "bfloat16": 2**-8,
    "float16": 2**-10,
    "complex64": 2e-6,
    "float64": 1e-14,
}


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype):
    with jax.enable_x64(dtype == "float64"):
        g, start, params, r = (tree(seed, jnp.dtype(dtype)) for seed in range(4))
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


def test_float32_beside_bfloat16():
    """Each array as precise as its most precise member."""
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), G)
    pair, _ = mix_regularizers(decay()).update(
        half, mix_regularizers(decay()).init(G), PARAMS
    )
    chex.assert_trees_all_equal_dtypes(tuple(pair), (half, PARAMS))
    pair = GradientPair(G, half)
    pair, _ = mix_regularizers(decay()).update(
        pair, mix_regularizers(decay()).init(G), PARAMS
    )
    chex.assert_trees_all_equal_dtypes(tuple(pair), (G, G))


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-25])
def test_a_member_that_is_zero_or_as_good_adds_nothing(size):
    """At the anchor the L2-SP gradient is zero, and there is no NaN."""
    near = jax.tree.map(lambda x: size * x, R)
    alone, _ = mix_regularizers(decay()).update(
        G, mix_regularizers(decay()).init(G), PARAMS
    )
    tx = mix_regularizers(l2_sp(), decay())
    pair, _ = tx.update(GradientPair(G, near), tx.init(PARAMS), PARAMS)
    chex.assert_trees_all_equal(pair, alone)
    tx = mix_regularizers(l2_sp())
    pair, _ = tx.update(G, tx.init(PARAMS), PARAMS)
    chex.assert_trees_all_equal(pair.regularizer, jax.tree.map(jnp.zeros_like, R))


@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
def test_any_scale_that_floats_have_gives_unit_norm(scale):
    big = jax.tree.map(lambda x: scale * x, R)
    pair, _ = mix_regularizers().update(
        GradientPair(G, big), mix_regularizers().init(G)
    )
    chex.assert_trees_all_close(pair.regularizer, mixed([R]), rtol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e25])
@pytest.mark.parametrize("whose", ["given", "parameters"])
def test_what_is_not_finite_is_not_swallowed(value, whose):
    """And a norm that overflows does not count as zero."""
    broken = R | {"head": jnp.asarray(value, jnp.float32)}
    tx = mix_regularizers(l2_sp(), decay())
    r, params = (broken, PARAMS) if whose == "given" else (R, broken)
    pair, _ = tx.update(GradientPair(G, r), tx.init(START), params)
    assert not all(np.isfinite(x).all() for x in jax.tree.leaves(pair.regularizer))
    chex.assert_trees_all_equal(pair.empirical, G)


def test_no_gradient_no_regularizer():
    g = G | {"body": {"w": None, "b": G["body"]["b"]}, "head": None}
    tx = mix_regularizers(l2_sp(), decay())
    pair, _ = tx.update(g, tx.init(START), PARAMS)
    only = lambda t: {"body": {"w": None, "b": t["body"]["b"]}, "head": None}  # noqa: E731
    expected = mixed([only(AWAY), only(PARAMS)])
    chex.assert_trees_all_close(pair.regularizer, expected, rtol=1e-5)


# Before an optimizer.

OPTIMIZERS = {
    "dtnh_adamw": lambda: dtnh_adamw(1e-3),
    "dtnh_sgd": lambda: dtnh_sgd(0.1, momentum=0.9, granularity="leaf"),
    "paper": lambda: optax.chain(dtnh(0.1), optax.sgd(0.1)),
}


@pytest.mark.usefixtures("lenient_promotion")
@pytest.mark.parametrize("form", ["plain", "pair", "keyword"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_optimizer_gets_the_mixture_once(name, form):
    """``chain`` hands the keyword on to the optimizer, in which r is already."""
    tx = optax.chain(mix_regularizers(l2_sp(), decay()), OPTIMIZERS[name]())
    by_hand = OPTIMIZERS[name]()
    states = tx.init(START), by_hand.init(START)
    update = jax.jit(
        chex.assert_max_traces(lambda g, s, p, **k: tx.update(g, s, p, **k), 1)
    )
    chex.clear_trace_counter()
    for step in range(3):
        params = tree(10 + step)
        g, r = tree(20 + step), tree(30 + step)
        updates, keywords = given(form, g, r)
        d, mine = update(updates, states[0], params, **keywords)
        away = jax.tree.map(jnp.subtract, params, START)
        members = [away, params] if form == "plain" else [away, params, r]
        total = jax.tree.map(jnp.float32, mixed(members))
        e, his = jax.jit(by_hand.update)(GradientPair(g, total), states[1], params)
        states = mine, his
        chex.assert_trees_all_close(d, e, rtol=1e-4, atol=1e-6)
    report, expected = map(conflict_report, states)
    chex.assert_trees_all_close(report, expected, rtol=1e-3, atol=1e-4)


def test_a_chain_of_mixtures():
    """The pair of the first is a member of the second, the keyword of the first."""
    first, second = (
        mix_regularizers(l2_sp()),
        mix_regularizers(decay(), weights=[1, 2]),
    )
    tx = optax.chain(first, second)
    for form, members in (
        ("plain", [AWAY]),
        ("keyword", [AWAY, R]),
        ("pair", [AWAY, R]),
    ):
        updates, keywords = given(form)
        pair, _ = tx.update(updates, tx.init(START), PARAMS, **keywords)
        expected = mixed([PARAMS, mixed(members)], [1, 2])
        chex.assert_trees_all_close(pair.regularizer, expected, rtol=1e-5, atol=1e-6)


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


BODY = {"body": True, "head": False}
WRAPPERS = {
    "masked": lambda tx: optax.masked(tx, BODY, mask_compatible_extra_args=True),
    "partition": lambda tx: optax.partition(
        {True: tx, False: optax.identity()}, BODY, mask_compatible_extra_args=True
    ),
}


@pytest.mark.parametrize("form", ["plain", "keyword"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_part_of_the_network_alone(wrapper, form):
    tx = WRAPPERS[wrapper](optax.chain(mix_regularizers(l2_sp(), decay()), dtnh()))
    updates, keywords = given(form)
    d, _ = jax.jit(tx.update)(updates, tx.init(START), PARAMS, **keywords)
    body = [t["body"] for t in (AWAY, PARAMS, R)][: 2 if form == "plain" else 3]
    r = jax.tree.map(jnp.float32, mixed(body))
    e, _ = dtnh().update(GradientPair(G["body"], r), dtnh().init(G["body"]))
    expected = {"body": e, "head": G["head"]}
    chex.assert_trees_all_close(d, expected, rtol=1e-5, atol=1e-6)


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


def update(tx, form="plain", r=R):
    updates, keywords = given(form, r=r)
    return tx.update(updates, tx.init(START), PARAMS, **keywords)


@pytest.mark.parametrize(
    ("act", "error", "says"),
    [
        (
            lambda: mix_regularizers([decay(), l2_sp()]),
            TypeError,
            "`makers[0]` must be an optax.GradientTransformation, got [",
        ),
        (
            lambda: mix_regularizers(decay(), l2),
            TypeError,
            "`makers[1]` must be an optax",
        ),
        (
            lambda: mix_regularizers(decay(), weights=0.5),
            TypeError,
            "`weights` must be a sequence of numbers, got 0.5",
        ),
        (
            lambda: mix_regularizers(decay(), weights=jnp.ones(())),
            TypeError,
            "`weights` must be a sequence of numbers",
        ),
        (
            lambda: mix_regularizers(decay(), weights="1"),
            TypeError,
            "`weights[0]` must be a",
        ),
        (
            lambda: mix_regularizers(decay(), decay(), weights=[1, -1]),
            ValueError,
            "`weights[1]` must be non-negative, got -1",
        ),
        (
            lambda: mix_regularizers(decay(), weights=[np.nan]),
            ValueError,
            "`weights[0]` must be non-negative, got nan",
        ),
        (
            lambda: mix_regularizers(decay(), weights=[1, 1, 1]),
            ValueError,
            "`weights` has 3 entries for 1 regularizers: pass one per maker, and one",
        ),
        (
            lambda: mix_regularizers(decay(), decay(), weights=[1]),
            ValueError,
            "`weights` has 1 entries for 2 regularizers",
        ),
        (
            lambda: update(mix_regularizers(decay(), weights=[1]), "pair"),
            ValueError,
            "`weights` has 1 entries for 2 regularizers",
        ),
        (
            lambda: update(mix_regularizers(decay(), weights=[1, 1])),
            ValueError,
            "`weights` has 2 entries for 1 regularizers",
        ),
        (lambda: update(mix_regularizers()), ValueError, "has nothing to mix"),
        (
            lambda: update(mix_regularizers(decay(), optax.sgd(0.1))),
            TypeError,
            "makers[1] must turn a gradient into a GradientPair, as l2_sp() does; it "
            "returned dict",
        ),
        (
            lambda: update(mix_regularizers(dtnh())),
            TypeError,
            "dtnh needs two gradients",
        ),
        (
            lambda: update(
                mix_regularizers(decay()), "pair", R | {"head": jnp.ones(2)}
            ),
            ValueError,
            "regularizer gradient has shape (2,) at ['head'], empirical gradient ()",
        ),
        (
            lambda: update(mix_regularizers(decay()), "keyword", {"body": R["body"]}),
            ValueError,
            "regularizer gradient has nothing at ['head']",
        ),
        (
            lambda: mix_regularizers(decay()).update(
                GradientPair(G, R),
                mix_regularizers(decay()).init(G),
                PARAMS,
                regularizer_grads=R,
            ),
            ValueError,
            "given twice",
        ),
        (
            lambda: mix_regularizers(decay()).update(
                G, mix_regularizers(decay()).init(G)
            ),
            ValueError,
            "l2 needs the parameters",
        ),
        (lambda: mix_regularizers(axis_name=3), TypeError, "`axis_name` must be the"),
    ],
)
def test_refused_with_words(act, error, says):
    with pytest.raises(error, match=re.escape(says)):
        act()
