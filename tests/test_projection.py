"""The guarantees G1 ... G6 of design, for every type, scale and granularity."""

import functools
import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import properties as check
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samplers import TEMPLATES, fill, pairs, tree_map
from trees import close, stack

from dtnh_jax import project_conflict

DTYPES = {
    "float32": (np.float32, 12),
    "bfloat16": (ml_dtypes.bfloat16, 12),
    "float16": (np.float16, 1),  # from 6e-5, its smallest normal number, to 65504
    "float64": (np.float64, 12),
    "complex64": (np.complex64, 12),
}
GRANULARITIES = ("global", "layer", "leaf")


@functools.cache
def jitted(granularity):
    return jax.jit(functools.partial(project_conflict, granularity=granularity))


def group_filters(tree, granularity):
    """For each group, a predicate on paths: what granularity means, written anew."""
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
    depth = {"global": lambda p: (), "layer": lambda p: p[:-1], "leaf": lambda p: p}
    key = depth[granularity]
    return [
        lambda path, wanted=wanted: key(path) == wanted
        for wanted in dict.fromkeys(map(key, paths))
    ]


def groups(granularity, *trees):
    """The trees' vectors, group after group."""
    for wanted in group_filters(trees[0], granularity):
        yield check.vectors(*trees, paths=wanted)


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
        g, r = pair.empirical, pair.regularizer
        projected = jitted(granularity)(r, g)
        again = jitted(granularity)(projected, g)
        for leaf, kept in zip(
            jax.tree.leaves(r), jax.tree.leaves(projected), strict=True
        ):
            assert leaf.dtype == kept.dtype
            assert leaf.shape == kept.shape
        for g_, r_, p_, a_ in groups(granularity, g, r, projected, again):
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
    eps = check.epsilon(np.float32)
    rng = np.random.default_rng(0)
    u, v = rng.standard_normal((2, 50))
    for other in (-12, 0, 12):
        g = 10.0**decade * u
        r = 10.0**other * (v - 0.05 * u)
        assert check.dot(g, r) < 0
        with pytest.raises(AssertionError):
            check.assert_non_conflict(g, r, r, eps)
        with pytest.raises(AssertionError):
            check.assert_nearest(g, r, r + 0.1 * check.norm(r) * g / check.norm(g), eps)
        alike = 10.0 ** (decade - other) * r
        with pytest.raises(AssertionError):
            check.assert_never_slower(g, alike, g + alike, eps)


@given(pairs(np.float32, 0), st.integers(-15, 15), st.integers(-15, 15))
def test_scale(pair, a, b):
    """G5: P(g, a·r) = a·P(g, r) and P(b·g, r) = P(g, r)."""
    g, r = pair.empirical, pair.regularizer
    scaled = tree_map(lambda x: (10.0**a * x).astype(np.float32), r)
    stretched = tree_map(lambda x: (10.0**b * x).astype(np.float32), g)
    eps = check.epsilon(np.float32)
    base, one, other = check.vectors(
        jitted("global")(r, g),
        jitted("global")(scaled, g),
        jitted("global")(r, stretched),
    )
    size = check.norm(check.vectors(r)[0])
    check.assert_close(one / 10.0**a, base, eps, size=size)
    check.assert_close(other, base, eps, size=size)


@given(pairs(np.float32, 6, ("one array",)), st.permutations(range(7)))
def test_order_and_container(pair, order):
    """G6: leaves in another order and container give the same, leaf by leaf."""
    g, r = pair.empirical["w"], pair.regularizer["w"]
    whole = np.asarray(jitted("global")({"w": r}, {"w": g})["w"])
    apart = jitted("global")([r[i] for i in order], [g[i] for i in order])
    eps = check.epsilon(np.float32)
    check.assert_close(np.asarray(apart), whole[order], eps, size=check.norm(r))


@given(pairs(np.float32, 6, ("one array",)), st.integers(0, 2**32 - 1))
def test_rotation(pair, seed):
    """G6: global mode commutes with every rotation Q: P(Qg, Qr) = Q·P(g, r)."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((7, 7)))
    g, r = (np.asarray(x["w"], np.float64) for x in (pair.empirical, pair.regularizer))
    turned = jitted("global")({"w": np.float32(q @ r)}, {"w": np.float32(q @ g)})["w"]
    there = q @ np.asarray(
        jitted("global")({"w": np.float32(r)}, {"w": np.float32(g)})["w"]
    )
    eps = check.epsilon(np.float32)
    check.assert_close(np.asarray(turned, np.float64), there, eps, size=check.norm(r))


def conflicting(g_scale=1.0, r_scale=1.0, dtype=jnp.float32):
    g = {"a": jnp.array([1.0, 2.0], dtype), "b": jnp.array([[0.5]], dtype)}
    r = {"a": jnp.array([-3.0, 1.0], dtype), "b": jnp.array([[-1.0]], dtype)}
    return (
        jax.tree.map(lambda x: x * jnp.asarray(g_scale, dtype), g),
        jax.tree.map(lambda x: x * jnp.asarray(r_scale, dtype), r),
    )


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("r_scale", [1e-30, 1e-15, 1.0, 1e12])
@pytest.mark.parametrize("g_scale", [1e-30, 1e-15, 1.0, 1e12])
def test_tiny_gradients_are_still_projected(g_scale, r_scale, granularity):
    g, r = conflicting(g_scale, r_scale)
    eps = check.epsilon(np.float32)
    for g_, r_, p_ in groups(granularity, g, r, jitted(granularity)(r, g)):
        assert check.dot(g_, r_) < -0.1
        check.assert_close(p_, check.project(g_, r_), eps, size=check.norm(r_))


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_zero_gradient_leaves_the_regularizer_alone(granularity):
    g, r = conflicting()
    zero = jax.tree.map(jnp.zeros_like, g)
    same = functools.partial(jax.tree.map, np.testing.assert_array_equal)
    same(jitted(granularity)(r, zero), r)
    same(jitted(granularity)(zero, g), zero)
    half = {"a": zero["a"], "b": g["b"]}
    same(jitted("leaf")(r, half), {"a": r["a"], "b": jnp.zeros((1, 1))})


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-15, 1.0])
def test_compiled_together_with_the_gradients_it_is_the_same(scale):
    """XLA must not fold the scaling of small numbers into the penalty's constants."""
    rng = np.random.default_rng(0)
    w, w0, x = (jnp.asarray(rng.standard_normal((5, 5)), jnp.float32) for _ in range(3))

    def gradients(w):
        g = jax.grad(lambda w: jnp.sum(jnp.tanh(x @ w) ** 2))(w)
        r = jax.grad(lambda w: 0.5 * jnp.sum((w - w0) ** 2))(w)
        return g, jnp.float32(scale) * (r - 3.0 * g)

    @jax.jit
    def both(w):
        g, r = gradients(w)
        return project_conflict(r, g), g, r

    together, g, r = both(w)
    g, r = (np.asarray(half, np.float64).ravel() for half in (g, r))
    eps = check.epsilon(np.float32)
    expected = check.project(g, r)
    check.assert_close(np.ravel(together), expected, eps, size=check.norm(r))


def test_negative_zero_is_kept_bit_for_bit():
    r, g = jnp.array([-0.0, 1.0]), jnp.array([-1.0, 1.0])
    assert np.signbit(project_conflict(r, g)).tolist() == [True, False]


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("half", ["empirical", "regularizer"])
def test_what_is_not_finite_is_not_swallowed(half, bad, granularity):
    g, r = conflicting()
    broken = g if half == "empirical" else r
    broken["a"] = broken["a"].at[0].set(bad)
    assert not np.isfinite(jitted(granularity)(r, g)["a"]).all()


def test_a_norm_beyond_range_comes_out_as_nan_and_not_as_no_conflict():
    g, r = conflicting(g_scale=1e25)
    assert np.isnan(jitted("global")(r, g)["a"]).all()


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("tree", [{}, None, [], {"a": None}, {"a": jnp.zeros((0, 3))}])
def test_trees_without_numbers(tree, granularity):
    out = jitted(granularity)(tree, tree)
    assert jax.tree.structure(out) == jax.tree.structure(tree)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_eager_jit_vmap_and_scan_agree(granularity):
    rng = np.random.default_rng(0)
    template = {"body": {"w": (2,), "b": (1, 1)}, "head": {"w": (2,)}}
    rows = [[fill(template, rng, np.float32) for _ in range(2)] for _ in range(5)]
    r, g = stack(*rows)
    f = functools.partial(project_conflict, granularity=granularity)
    eager = stack(*(f(*row) for row in rows))
    jit = stack(*(jitted(granularity)(*row) for row in rows))
    _, scan = jax.lax.scan(lambda carry, x: (carry, f(*x)), None, (r, g))
    for other in (jit, jax.jit(jax.vmap(f))(r, g), scan):
        close(other, eager, 2e-6, 2e-6)
