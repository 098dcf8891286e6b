"""``dtnh``: what it adds up, where numbers are extreme, its call forms, its state."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import properties as check
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samplers import (
    DTYPES,
    G,
    R,
    conflicting,
    normal,
    pairs,
    stack,
    update,
    zeros,
)

from dtnh_jax import GradientPair, conflict_report, dtnh

close = functools.partial(chex.assert_trees_all_close, rtol=2e-6, atol=1e-7)
RULES = ("project", "drop", "ignore")


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float64", "complex64"])
def test_never_slower(name):
    """G2, and that d = g + λr' with r' from the oracle."""
    dtype, decades = DTYPES[name]
    eps = check.epsilon(dtype)
    weight = 0.3
    tx = dtnh(weight, granularity="layer")
    step = jax.jit(lambda g, r: update(tx, g, r)[0])

    @given(pairs(dtype, decades // 2))
    def holds(pair):
        g, r = pair
        d = step(g, r)
        assert all(x.dtype == dtype for x in jax.tree.leaves(d))
        for g_, r_, d_ in check.groups("layer", g, r, d):
            check.assert_never_slower(g_, weight * r_, d_, eps)
            expected = g_ + weight * check.project(g_, r_)
            size = check.norm(g_) + check.norm(r_)
            check.assert_close(d_, expected, eps, size=size)

    with jax.enable_x64(name == "float64"):
        holds()


@pytest.mark.parametrize(
    ("granularity", "kappa"),
    [("global", None), ("layer", None), ("layer", 0.5), ("leaf", 0.5)],
)
def test_rules_and_the_share_removed(granularity, kappa):
    """|λr - r'| / |λr|, where the cap and the rule each take their part, too."""
    g, r = normal(0), normal(3)  # agree in one layer, and are opposed on the whole

    @jax.jit
    def by_rules(g, r):
        options = {"granularity": granularity, "max_ratio": kappa}
        return [update(dtnh(2.0, on_conflict=x, **options), g, r) for x in RULES]

    for rule, (d, state) in zip(RULES, by_rules(g, r), strict=True):
        removed, opposed = [], set()
        for g_, r_, d_ in check.groups(granularity, g, r, d):
            whole = 2 * r_
            opposed.add(check.dot(g_, r_) < 0)
            if check.dot(g_, r_) < 0 and rule != "ignore":
                whole = 2 * check.project(g_, r_) if rule == "project" else 0 * r_
            expected, kept = g_ + whole, whole
            if kappa is not None:
                expected, kept = check.step(g_, g_, 2 * r_, kappa, rule)
            np.testing.assert_allclose(d_, expected, 1e-5, 1e-6)
            removed.append(check.norm(2 * r_ - kept) / check.norm(2 * r_))
        np.testing.assert_allclose(state.conflict.removed, removed, 1e-5, 1e-6)
        assert opposed == ({True} if granularity == "global" else {True, False})


@jax.jit
def capped(g, r, weight, kappa):
    d, state = update(dtnh(weight, max_ratio=kappa), g, r)
    return d, state.conflict.pull


@given(
    pairs(np.float32, 6),
    st.sampled_from([1e-3, 0.1, 0.5, 1.0]),
    st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_max_ratio_caps_regularizer_and_step(pair, kappa, weight):
    """G10: |r'| <= κ|u| and |d| <= |u|, for every weight; here u = g."""
    g, r = pair
    d, pull = capped(g, r, weight, kappa)
    g_, r_, d_ = check.vectors(g, r, d)
    eps = check.epsilon(np.float32)
    assert pull <= kappa * (1 + 4 * eps)
    if check.dot(g_, r_) > -0.99:  # else rounding hides how little is left of r
        assert check.norm(d_) <= check.norm(g_) * (1 + check.SLACK * eps)
        expected, _ = check.step(g_, g_, weight * r_, kappa)
        check.assert_close(d_, expected, 1e-5, size=check.norm(g_))


def test_under_a_cap_a_regularizer_that_counts_as_zero_is_left_out():
    """G10 at a weight that would make up for its length."""
    g, r = jnp.full(4, 1e-15), jnp.array([2e-16, -2e-16, 2e-16, 2e-16])
    d, pull = capped(g, r, 1e3, 0.3)
    chex.assert_trees_all_equal(d, g)
    assert pull == 0


def test_the_cap_holds_where_almost_all_is_conflict():
    """The angle, close to 180°, is known only up to rounding."""
    kappa, sine = 1e-3, 2e-3
    rng = np.random.default_rng(0)
    g, side = rng.standard_normal((2, 100, 300))
    g /= np.linalg.norm(g, axis=1, keepdims=True)
    side -= np.sum(side * g, axis=1, keepdims=True) * g
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    d, _ = jax.vmap(functools.partial(update, dtnh(max_ratio=kappa)))(
        jnp.float32(g), jnp.float32(sine * side - g)
    )
    d = np.float64(d)
    along = np.sum(d * g, axis=1)
    across = np.linalg.norm(d - along[:, None] * g, axis=1)
    assert np.max(across / along) < kappa * (1 + 1e-3)
    assert np.median(across / along) > kappa / 2


# Numbers that are zero, extreme or not finite.


@jax.jit
def by_rules_and_caps(g, r):
    both = [(rule, kappa) for rule in RULES for kappa in (None, 0.5)]
    return [update(dtnh(on_conflict=x, max_ratio=k), g, r) for x, k in both]


def test_a_zero_gradient_is_in_no_conflict():
    """And where neither is there, a cap of κ·0 is no reason for 0/0."""
    zero = zeros(G)
    for g, r in ((zero, R), (G, zero), (zero, zero)):
        for (d, state), is_capped in zip(
            by_rules_and_caps(g, r), [False, True] * 3, strict=True
        ):
            assert state.conflict.cosine == 0
            assert state.conflict.count == 0
            gone = is_capped and g is zero and r is R  # |r'| <= κ·0
            assert bool(state.conflict.removed) == gone
            added = zero if gone else r
            chex.assert_trees_all_equal(d, g if r is zero else added)


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
@pytest.mark.parametrize("half", [0, 1])
def test_non_finite_inputs_propagate(half, bad):
    pair = [dict(G), dict(R)]
    pair[half]["a"] = pair[half]["a"].at[0].set(bad)
    for d, _ in by_rules_and_caps(*pair):
        assert not np.isfinite(d["a"]).all()


def test_the_cosine_of_parallel_gradients_is_not_beyond_one():
    """As rounding would have it for one pair in several."""
    cosines = jax.jit(jax.vmap(lambda g, r: update(dtnh(), g, r)[1].conflict.cosine))
    g = np.random.default_rng(0).standard_normal((1000, 3)).astype(np.float32)
    assert cosines(g, g).max() == 1
    assert cosines(g, -g).min() == -1


def test_the_cosine_is_right_at_every_scale_or_zero():
    cosine = jax.jit(lambda g, r: update(dtnh(), g, r)[1].conflict.cosine)
    scales = 1e-37, 1e-25, 1e-15, 2e-9, 1.0, 1e17
    for g_scale in scales:
        for r_scale in scales:
            g, r = conflicting(g_scale, r_scale)
            is_zero = min(g_scale, r_scale) < 1e-16
            expected = 0.0 if is_zero else check.dot(*check.vectors(g, r))
            np.testing.assert_allclose(cosine(g, r), [expected], 1e-5)


def test_what_counts_as_zero_is_neither_capped_nor_projected_against():
    """Nor does anything divide by it."""
    tiny = jax.tree.map(lambda x: jnp.float32(1e-20) * x, (G, R))
    for options in ({}, {"max_ratio": 0.5}, {"inner": optax.trace(0.9)}):
        d, state = update(dtnh(**options), G, tiny[1])
        chex.assert_trees_all_close(d, G, rtol=1e-6)
        chex.assert_trees_all_equal(state.conflict, dtnh().init(G).conflict)
    d, state = update(dtnh(max_ratio=0.5), tiny[0], R)
    chex.assert_trees_all_equal(d, tiny[0])
    assert state.conflict.removed == 1
    d, state = update(dtnh(), tiny[0], R)
    chex.assert_trees_all_equal(d, R)
    assert state.conflict.pull == np.inf


@pytest.mark.parametrize("options", [{}, {"max_ratio": 0.5, "reference_decay": 0.9}])
def test_zeros_are_quiet_under_debug_nans(options):
    zeros = jax.tree.map(jnp.zeros_like, G)
    with jax.debug_nans(True):
        d, state = update(dtnh(**options), zeros, zeros)
    chex.assert_trees_all_equal(d, zeros)
    assert state.conflict.pull == 0


def test_all_of_an_opposite_regularizer_is_removed():
    _, state = update(dtnh(), jnp.array([1.0, 0.0]), jnp.array([-1.0, 0.0]))
    assert state.conflict.removed == 1


# Call forms and dtypes.


def test_pair_and_keyword_agree_bit_for_bit():
    tx = dtnh()
    keyword = tx.update(G, tx.init(G), regularizer_grads=R)
    chex.assert_trees_all_equal(update(tx), keyword)


def test_weight_may_be_a_schedule():
    tx = dtnh(optax.linear_schedule(0.0, 5.0, 10))
    state = tx.init(G)
    for step in range(3):
        d, state = tx.update(GradientPair(G, R), state)
        close(d, update(dtnh(0.5 * step))[0])
    assert state.count == 3


@pytest.mark.parametrize(
    ("empirical", "regularizer", "expected"),
    [
        ("bfloat16", "bfloat16", "bfloat16"),
        ("bfloat16", "float32", "float32"),
        ("float32", "bfloat16", "float32"),
        ("float16", "bfloat16", "float32"),
        ("float32", "float64", "float64"),
        ("complex64", "complex128", "complex128"),
    ],
)
def test_the_update_has_the_dtype_that_u_plus_r_promotes_to(
    empirical, regularizer, expected
):
    """And is rounded to it once: 256 + 0.25 needs more than the 8 bits of bfloat16."""
    with jax.enable_x64(True):
        g = {"w": jnp.array([256.0, 2.0], empirical)}
        r = {"w": jnp.array([0.25, -1.0], regularizer)}
        d, state = update(dtnh(0.5, inner=optax.trace(0.9)), g, r)
        assert d["w"].dtype == expected
        chex.assert_trees_all_equal_dtypes(state.conflict, dtnh().init(G).conflict)
        exact = np.array([256.125, 1.5]) if expected != "bfloat16" else [256.0, 1.5]
        np.testing.assert_array_equal(d["w"], exact)


def test_float32_stays_float32_where_float64_is_switched_on():
    with jax.enable_x64(True):
        half = jnp.float64(0.5)
        d, state = update(dtnh(half, max_ratio=half))
        found = {x.dtype.name for x in jax.tree.leaves((d, state.conflict[:3]))}
        assert found == {"float32"}


@pytest.mark.parametrize(
    ("options", "other"),
    [
        ({}, {"other": {"w": jnp.ones(3)}, "f": jnp.tanh, "n": 3}),
        ({"reference_decay": 0.9}, {"f": jnp.tanh, "other": {"w": jnp.ones(3)}}),
        (
            {"reference_decay": 0.9, "max_ratio": 1.0, "inner": optax.trace(0.9)},
            {"a": jnp.ones(3), "other": {"w": jnp.ones(3)}},
        ),
    ],
)
def test_a_missing_gradient_gives_a_missing_update(options, other):
    """Also where parameters, and the state, have an array or something else."""
    absent = jax.tree.map(lambda _: None, other)
    tx = dtnh(granularity="layer", **options)
    params = {**normal(0), **other}
    state, plain = tx.init(params), tx.init(normal(0))
    for seed in (1, 3, 5):
        g, r = normal(seed), normal(seed + 1)
        pair = GradientPair({**g, **absent}, {**r, **absent})
        d, state = tx.update(pair, state, params)
        expected, plain = tx.update(GradientPair(g, r), plain, normal(0))
        chex.assert_trees_all_equal(d, {**expected, **absent})
        chex.assert_trees_all_equal_structs(state.reference, tx.init(params).reference)
    report = conflict_report(state)
    for name, values in conflict_report(plain).items():
        assert report.pop(name) == values
    assert all(values == dict.fromkeys(values, 0) for values in report.values())


def test_a_tree_without_numbers_has_a_state_without_groups():
    tx = dtnh(granularity="leaf")
    state = tx.init({})
    _, new = tx.update(GradientPair({}, {}), state)
    chex.assert_trees_all_equal_shapes_and_dtypes(new, state)


# The state.


def test_one_compilation_and_a_state_that_scans_and_donates():
    tx = optax.chain(dtnh(granularity="layer"), optax.sgd(0.1, momentum=0.9))
    params, r = normal(0), normal(1)

    def step(params, state, r):
        updates, state = tx.update(GradientPair(params, r), state, params)
        return optax.apply_updates(params, updates), state

    jitted = jax.jit(step, donate_argnums=(0, 1))
    fresh = functools.partial(jax.tree.map, jnp.copy, (params, tx.init(params)))
    looped = fresh()
    for _ in range(3):
        looped = jitted(*looped, r)
    assert jitted._cache_size() == 1
    scanned, _ = jax.lax.scan(lambda c, _: (step(*c, r), None), fresh(), length=3)
    close(looped, scanned)


def test_vmap_over_seeds():
    tx = dtnh(granularity="leaf")
    pairs_ = [GradientPair(normal(i), normal(i + 2)) for i in range(2)]
    first = jax.jit(lambda pair: update(tx, *pair))
    d, states = jax.jit(jax.vmap(first))(stack(*pairs_))
    close((d, states), stack(*map(first, pairs_)))
    report = conflict_report(states)["conv/kernel"]
    assert report["cosine"].shape == (2,)


def test_conflicts_are_counted_in_whole_numbers():
    """In float32, counting stops at 2^24."""
    tx = dtnh()
    state = tx.init(G)
    for sign in (1.0, -1.0, 1.0, 1.0):
        r = jax.tree.map(lambda x, s=sign: s * x, R)
        _, state = tx.update(GradientPair(G, r), state)
    assert conflict_report(state)["global"]["rate"] == 0.75
    assert state.count.dtype == state.conflict.count.dtype == np.int32


def pair(g, r, tx=None, **kwargs):
    tx = tx or dtnh()
    return lambda: tx.update(GradientPair(g, r), tx.init(G), **kwargs)


INTEGERS = jax.tree.map(lambda x: x.astype(int), G)
REFUSED = {
    "got one (dict, dict)": lambda: dtnh().update((G, R), dtnh().init(G)),
    "got one dict: pass `GradientPair(": lambda: dtnh().update(G, dtnh().init(G)),
    "regularizer half of the pair is NoneType": pair(G, None),
    "empirical half of the pair is NoneType": pair(None, R),
    "empirical half of the pair is GradientPair": pair(GradientPair(G, R), R),
    "given twice": pair(G, R, regularizer_grads=R),
    "nothing at ['b']": pair(G, {"a": R["a"]}),
    "float32[2] at ['c'], empirical gradient nothing": pair(G, {**R, "c": R["a"]}),
    "float32[2] at ['m'], empirical": pair({"m": G}, {"m": R["a"]}),
    "shape (1,) at ['b'], empirical gradient (1, 1)": pair(G, {**R, "b": R["b"][0]}),
    "int32 at ['a'], empirical gradient int32": pair(INTEGERS, INTEGERS),
    "`weight` must be non-negative and finite, got -1.0": lambda: dtnh(-1.0),
    "`weight` must be non-negative and finite, got inf": lambda: dtnh(np.inf),
    "`weight` must be a real number, got '1'": lambda: dtnh("1"),
    "`weight` must be a real number, got 1j": lambda: dtnh(1j),
    "`weight` must be a real number, got np.complex64": lambda: dtnh(np.complex64(1)),
    "`weight` must be a real number, got JitTracer": lambda: jax.jit(dtnh)(jnp.ones(2)),
    "`max_ratio` must be above 0 and at most 1, got 0.0": lambda: dtnh(max_ratio=0.0),
    "`max_ratio` must be above 0 and at most 1, got 1.5": lambda: dtnh(max_ratio=1.5),
    "`max_ratio` must be a real number, got array": lambda: dtnh(max_ratio=np.ones(3)),
    "`reference_decay` must be above 0 and below 1, got 1.0": lambda: dtnh(
        reference_decay=1.0
    ),
    "`reference_decay` must be above 0 and below 1, got 0.0": lambda: dtnh(
        reference_decay=0.0
    ),
    "`reference_dtype` must be a floating-point dtype, got 'int8'": lambda: dtnh(
        reference_decay=0.5, reference_dtype="int8"
    ),
    "floating-point dtype, got 'floaty'": lambda: dtnh(reference_dtype="floaty"),
    "`reference_dtype` is for `reference_decay`": lambda: dtnh(reference_dtype="f4"),
    '"project", "drop", "ignore", got': lambda: dtnh(on_conflict="projet"),
    '"gradient", "update", got': lambda: dtnh(reference="updates"),
    '"global", "layer", "leaf", got': lambda: dtnh(granularity="layers"),
    "from parameters to labels, got None": lambda: dtnh(granularity=None),
    "`inner` must be an optax.GradientTransformation, got": lambda: dtnh(
        inner=optax.MultiSteps(optax.adam(0.1), 2)
    ),
}


@pytest.mark.parametrize("says", REFUSED)
def test_refused_with_words(says):
    with pytest.raises((TypeError, ValueError), match=re.escape(says)):
        REFUSED[says]()
