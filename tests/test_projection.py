"""The guarantees G1 ... G6, for every dtype, scale and granularity."""

import re

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
    DTYPES_AND_GRANULARITIES,
    GRANULARITIES,
    TEMPLATES,
    G,
    R,
    pairs,
    stack,
)

from dtnh_jax import GradientPair, project_conflict

EPS = check.epsilon(np.float32)


def _jitted(granularity):
    return jax.jit(
        lambda g, r: project_conflict(GradientPair(g, r), granularity=granularity)
    )


JITTED = {granularity: _jitted(granularity) for granularity in GRANULARITIES}


@pytest.mark.parametrize(("name", "granularity"), DTYPES_AND_GRANULARITIES)
def test_every_guarantee(name, granularity):
    dtype, decades = DTYPES[name]
    eps = check.epsilon(dtype)
    # One array is one group, whatever the granularity.
    several = "a network", "a list"
    templates = tuple(TEMPLATES) if granularity == "global" else several

    @given(pairs(dtype, decades, templates))
    def holds(pair):
        g, r = pair
        projected = JITTED[granularity](g, r)
        again = JITTED[granularity](g, projected)
        chex.assert_trees_all_equal_shapes_and_dtypes(r, projected)
        for g_, r_, p_, a_ in check.groups(granularity, g, r, projected, again):
            check.assert_non_conflict(g_, r_, p_, eps)
            check.assert_untouched(g_, r_, p_, eps)
            check.assert_nearest(g_, r_, p_, eps)
            check.assert_close(p_, check.project(g_, r_), eps, size=check.norm(r_))
            check.assert_close(a_, p_, eps, size=check.norm(r_))  # idempotent

    with jax.enable_x64(name in ("float64", "complex128")):
        holds()


@pytest.mark.parametrize("decade", [-12, 0, 12])
@pytest.mark.parametrize("other", [-12, 0, 12])
def test_the_checks_reject_the_plain_sum_at_every_scale(decade, other):
    u, v = np.random.default_rng(0).standard_normal((2, 50))
    g, r = 10.0**decade * u, 10.0**other * (v - 0.05 * u)
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
    scaled = jax.tree.map(lambda x: (10.0**a * x).astype(np.float32), r)
    stretched = jax.tree.map(lambda x: (10.0**b * x).astype(np.float32), g)
    project = JITTED["global"]
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
    whole = np.asarray(JITTED["global"]({"w": g}, {"w": r})["w"])
    apart = JITTED["global"]([g[i] for i in order], [r[i] for i in order])
    check.assert_close(np.asarray(apart), whole[order], EPS, size=check.norm(r))


@given(pairs(np.float32, 6, ("one array",)), st.integers(0, 2**32 - 1))
def test_rotation(pair, seed):
    """G6: global mode commutes with every rotation Q: P(Qg, Qr) = Q·P(g, r)."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((7, 7)))
    g, r = (np.asarray(half["w"], np.float64) for half in pair)
    turned, straight = (
        np.asarray(JITTED["global"]({"w": np.float32(x)}, {"w": np.float32(y)})["w"])
        for x, y in ((q @ g, q @ r), (g, r))
    )
    check.assert_close(turned, q @ straight, EPS, size=check.norm(r))


@pytest.mark.parametrize("scale", [0.0, 1e-37, 1e-17])
def test_a_gradient_that_counts_as_zero_leaves_the_regularizer_alone(scale):
    """One with a root mean square of less than about 3e-16."""
    tiny = jax.tree.map(lambda x: np.float32(scale) * x, (G, R))
    project = JITTED["leaf"]
    chex.assert_trees_all_equal(project(tiny[0], R), R)
    chex.assert_trees_all_equal(project(G, tiny[1]), tiny[1])
    half = {"a": tiny[0]["a"], "b": G["b"]}
    expected = {"a": R["a"], "b": jnp.zeros((1, 1))}
    chex.assert_trees_all_equal(project(half, R), expected)


SIZE = 2**16
FEW = 3
# At which FEW entries alone are exactly as long as what counts as zero.
BORDER = np.sqrt(SIZE / FEW * np.finfo(np.float32).tiny / np.finfo(np.float32).eps)


def few_and_many(few, many):
    """A few large entries, and thousands of tiny ones."""
    return np.where(np.arange(SIZE) < FEW, few, many).astype(np.float32)


@pytest.mark.parametrize(
    "few",
    [0.0, 1e-17, *(BORDER * np.array([0.03, 0.99, 1.01, 1e4]))],
)
@pytest.mark.parametrize("many", [1e-23, 1.05e-19, 3e-16, 4e-16])
def test_nothing_is_amplified_where_squares_underflow(few, many):
    """‖r'‖ <= ‖r‖; and r' is exact to rounding, or r where something counts as zero."""
    sparse = few_and_many(few, many)
    for along in (few_and_many(0, 1), few_and_many(0, 3e-16), few_and_many(1, 1e-4)):
        for g, r in ((sparse, -along), (along, -sparse), (sparse, -sparse)):
            projected = np.asarray(JITTED["global"]({"w": g}, {"w": r})["w"])
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
def test_a_norm_beyond_range_comes_out_non_finite_and_never_wrong(half):
    for exponent in [*range(-49, 61, 5), *range(61, 67), 126]:
        scale = np.float32(2.0**exponent)
        pair = GradientPair(G, R)
        scaled = jax.tree.map(lambda x, scale=scale: scale * x, getattr(pair, half))
        g, r = pair._replace(**{half: scaled})
        projected = JITTED["leaf"](g, r)
        for g_, r_, p_ in check.groups("leaf", g, r, projected):
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
@pytest.mark.parametrize("tree", [{}, [], {"a": None}, {"a": jnp.zeros((0, 3))}])
def test_trees_without_numbers(tree, granularity):
    out = JITTED[granularity](tree, tree)
    chex.assert_trees_all_equal_structs(out, tree)


def test_leaves_may_be_plain_numbers():
    assert project_conflict(GradientPair({"w": 2.0}, {"w": -1.0}))["w"] == 0


def test_eager_jit_vmap_and_scan_agree():
    rng = np.random.default_rng(0)
    rows = [
        GradientPair(*({"w": rng.standard_normal(3, np.float32)} for _ in range(2)))
        for _ in range(5)
    ]
    eager, jit = (
        stack(*map(function, rows))
        for function in (project_conflict, lambda pair: JITTED["global"](*pair))
    )
    vmap = jax.vmap(project_conflict)(stack(*rows))
    _, scan = jax.lax.scan(lambda _, x: (0, project_conflict(x)), 0, stack(*rows))
    for other in (jit, vmap, scan):
        chex.assert_trees_all_close(other, eager, rtol=2e-6, atol=2e-6)


REFUSED = {
    "GradientPair(empirical=g, regularizer=r), got (": (G, R),
    "GradientPair(empirical=g, regularizer=r), got dict": G,
    "got float32[2]": G["a"],
    "got NoneType": None,
    "the empirical half of the pair is NoneType": GradientPair(None, None),
}


@pytest.mark.parametrize("says", REFUSED)
def test_bare_gradients_are_refused(says):
    """Nothing would tell which is which."""
    with pytest.raises(TypeError, match=re.escape(says)):
        project_conflict(REFUSED[says])
