"""The guarantees G1 ... G6, for every dtype, scale and granularity."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import properties as check
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samplers import (
    DTYPES,
    GRANULARITIES,
    TEMPLATES,
    G,
    R,
    conflicting,
    fill,
    pairs,
    tree_map,
)
from trees import stack

from dtnh_jax import GradientPair, project_conflict

EPS = check.epsilon(np.float32)


@functools.cache
def jitted(granularity):
    """The projection as a function of g and r, compiled."""
    return jax.jit(
        lambda g, r: project_conflict(GradientPair(g, r), granularity=granularity)
    )


def typed(name, granularity):
    """Of float16 and complex64 the fast tests have one granularity."""
    slow = name in ("float16", "complex64") and granularity != "layer"
    return pytest.param(name, granularity, marks=[pytest.mark.slow] * slow)


@pytest.mark.parametrize(
    ("name", "granularity"),
    [typed(*both) for both in itertools.product(DTYPES, GRANULARITIES)],
)
def test_every_guarantee(name, granularity):
    dtype, decades = DTYPES[name]
    eps = check.epsilon(dtype)
    # One array is one group, whatever the granularity.
    several = "a network", "a list"
    templates = tuple(TEMPLATES) if granularity == "global" else several

    @given(pairs(dtype, decades, templates))
    def holds(pair):
        g, r = pair
        projected = jitted(granularity)(g, r)
        again = jitted(granularity)(g, projected)
        chex.assert_trees_all_equal_shapes_and_dtypes(r, projected)
        for g_, r_, p_, a_ in check.groups(granularity, g, r, projected, again):
            check.assert_non_conflict(g_, r_, p_, eps)
            check.assert_untouched(g_, r_, p_, eps)
            check.assert_nearest(g_, r_, p_, eps)
            check.assert_close(p_, check.project(g_, r_), eps, size=check.norm(r_))
            check.assert_close(a_, p_, eps, size=check.norm(r_))  # idempotent

    with jax.enable_x64(dtype is np.float64):
        holds()


@pytest.mark.parametrize("decade", range(-12, 13, 3))
def test_the_checks_reject_the_plain_sum_at_every_scale(decade):
    """A test of the test: r left as it is, in conflict, must not pass for projected."""
    rng = np.random.default_rng(0)
    u, v = rng.standard_normal((2, 50))
    for other in (-12, 0, 12):
        g = 10.0**decade * u
        r = 10.0**other * (v - 0.05 * u)
        assert check.dot(g, r) < 0
        with pytest.raises(AssertionError):
            check.assert_non_conflict(g, r, r, EPS)
        with pytest.raises(AssertionError):
            check.assert_nearest(g, r, r + 0.1 * check.norm(r) * g / check.norm(g), EPS)
        alike = 10.0 ** (decade - other) * r
        with pytest.raises(AssertionError):
            check.assert_never_slower(g, alike, g + alike, EPS)


@given(pairs(np.float32, 0), st.integers(-14, 14), st.integers(-14, 14))
def test_scale(pair, a, b):
    """G5: P(g, a·r) = a·P(g, r) and P(b·g, r) = P(g, r)."""
    g, r = pair
    scaled = tree_map(lambda x: (10.0**a * x).astype(np.float32), r)
    stretched = tree_map(lambda x: (10.0**b * x).astype(np.float32), g)
    project = jitted("global")
    base, one, other = check.vectors(
        project(g, r), project(g, scaled), project(stretched, r)
    )
    size = check.norm(check.vectors(r)[0])
    check.assert_close(one / 10.0**a, base, EPS, size=size)
    check.assert_close(other, base, EPS, size=size)


@given(pairs(np.float32, 6, ("one array",)), st.permutations(range(7)))
def test_order_and_container(pair, order):
    """G6: leaves in another order and container give the same, leaf by leaf."""
    g, r = (half["w"] for half in pair)
    whole = np.asarray(jitted("global")({"w": g}, {"w": r})["w"])
    apart = jitted("global")([g[i] for i in order], [r[i] for i in order])
    check.assert_close(np.asarray(apart), whole[order], EPS, size=check.norm(r))


@given(pairs(np.float32, 6, ("one array",)), st.integers(0, 2**32 - 1))
def test_rotation(pair, seed):
    """G6: global mode commutes with every rotation Q: P(Qg, Qr) = Q·P(g, r)."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((7, 7)))
    g, r = (np.asarray(half["w"], np.float64) for half in pair)
    turned, straight = (
        np.asarray(jitted("global")({"w": np.float32(x)}, {"w": np.float32(y)})["w"])
        for x, y in ((q @ g, q @ r), (g, r))
    )
    check.assert_close(turned, q @ straight, EPS, size=check.norm(r))


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("scale", [0.0, 1e-37, 1e-25, 1e-17])
def test_a_gradient_that_counts_as_zero_leaves_the_regularizer_alone(
    scale, granularity
):
    """One with a root mean square of less than about 3e-16."""
    tiny = jax.tree.map(lambda x: np.float32(scale) * x, (G, R))
    project = jitted(granularity)
    chex.assert_trees_all_equal(project(tiny[0], R), R)
    chex.assert_trees_all_equal(project(G, tiny[1]), tiny[1])
    half = {"a": tiny[0]["a"], "b": G["b"]}
    expected = {"a": R["a"], "b": jnp.zeros((1, 1))}
    chex.assert_trees_all_equal(jitted("leaf")(half, R), expected)


SIZE = 2**16
FEW = 3
# At which FEW entries alone are exactly as long as what counts as zero.
BORDER = np.sqrt(SIZE / FEW * np.finfo(np.float32).tiny / np.finfo(np.float32).eps)


def few_and_many(few, many):
    """A few large entries, and thousands of tiny ones."""
    return np.where(np.arange(SIZE) < FEW, few, many).astype(np.float32)


@pytest.mark.parametrize(
    "few",
    [0.0, 1.2e-19, 1e-17, 3e-17, *(BORDER * np.array([0.03, 0.99, 1.01, 1e4]))],
)
@pytest.mark.parametrize("many", [1e-23, 1e-20, 1.05e-19, 2e-19, 3e-16, 4e-16])
def test_nothing_is_amplified_where_squares_underflow(few, many):
    """‖r'‖ <= ‖r‖; and r' is exact to rounding, or r where something counts as zero."""
    sparse = few_and_many(few, many)
    for along in (few_and_many(0, 1), few_and_many(0, 3e-16), few_and_many(1, 1e-4)):
        for g, r in ((sparse, -along), (along, -sparse), (sparse, -sparse)):
            projected = np.asarray(jitted("global")({"w": g}, {"w": r})["w"])
            g_, r_, p_ = check.vectors(g, r, projected)
            assert check.norm(p_) <= check.norm(r_) * (1 + check.SLACK * EPS)
            if not np.array_equal(projected, r):
                # Sums of so many equal numbers are rounded alike in every term.
                eps = EPS * np.log2(SIZE) / 4
                size = check.norm(r_)
                check.assert_close(p_, check.project(g_, r_), eps, size=size)
            elif check.dot(g_, r_) < -1e-3:
                shortest = min(check.norm(g_), check.norm(r_)) / SIZE**0.5
                assert shortest < 1.01 * BORDER * (FEW / SIZE) ** 0.5


@pytest.mark.parametrize("half", ["empirical", "regularizer"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_norm_beyond_range_comes_out_non_finite_and_never_wrong(half, granularity):
    for exponent in range(-49, 127):
        scale = np.float32(2.0**exponent)
        pair = GradientPair(G, R)
        scaled = jax.tree.map(lambda x, scale=scale: scale * x, getattr(pair, half))
        g, r = pair._replace(**{half: scaled})
        projected = jitted(granularity)(g, r)
        for g_, r_, p_ in check.groups(granularity, g, r, projected):
            if is_finite := np.isfinite(p_).all():
                size = check.norm(r_)
                check.assert_close(p_, check.project(g_, r_), EPS, size=size)
            else:
                assert not np.isfinite(p_[: np.size(p_) // 2]).any()
            assert is_finite if exponent <= 61 else (exponent < 66 or not is_finite)


def test_negative_zero_is_kept_bit_for_bit():
    pair = GradientPair(jnp.array([-1.0, 1.0]), jnp.array([-0.0, 1.0]))
    assert np.signbit(project_conflict(pair)).tolist() == [True, False]


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("half", [0, 1])
def test_non_finite_inputs_propagate(half, bad, granularity):
    pair = conflicting()
    pair[half]["a"] = pair[half]["a"].at[0].set(bad)
    assert not np.isfinite(jitted(granularity)(*pair)["a"]).all()


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("tree", [{}, [], {"a": None}, {"a": jnp.zeros((0, 3))}])
def test_trees_without_numbers(tree, granularity):
    out = jitted(granularity)(tree, tree)
    chex.assert_trees_all_equal_structs(out, tree)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_eager_jit_vmap_and_scan_agree(granularity):
    rng = np.random.default_rng(0)
    template = {"body": {"w": (2,), "b": (1, 1)}, "head": {"w": (2,)}}
    rows = [
        GradientPair(*(fill(template, rng, np.float32) for _ in range(2)))
        for _ in range(5)
    ]
    stacked = stack(*rows)
    f = functools.partial(project_conflict, granularity=granularity)
    eager, jit = (
        stack(*map(function, rows))
        for function in (f, lambda pair: jitted(granularity)(*pair))
    )
    _, scan = jax.lax.scan(lambda carry, x: (carry, f(x)), None, stacked)
    for other in (jit, jax.jit(jax.vmap(f))(stacked), scan):
        chex.assert_trees_all_close(other, eager, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda: project_conflict(R, G), "takes 1 positional argument but 2"),
        (lambda: project_conflict(*GradientPair(G, R)), "takes 1 positional argument"),
        (lambda: project_conflict((G, R)), r"GradientPair\(.*, got \("),
        (lambda: project_conflict(G), r"GradientPair\(.*, got dict"),
        (lambda: project_conflict(G["a"]), r"got float32\[2\]"),
        (lambda: project_conflict(None), "got NoneType"),
        (lambda: project_conflict(GradientPair(None, None)), "empirical half .* None"),
    ],
)
def test_two_bare_gradients_are_refused(act, says):
    """Nothing would tell which is which."""
    with pytest.raises(TypeError, match=says):
        act()
