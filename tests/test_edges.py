"""Where numbers are extreme, zero, or capped: what random pairs do not reach."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import properties as check
import pytest
from samplers import G, R, conflicting, network, update

from dtnh_jax import (
    GradientPair,
    _groups,
    _sums,
    conflict_report,
    dtnh,
    project_conflict,
)

RULES = ("project", "drop", "ignore")


@pytest.mark.parametrize("kappa", [None, 0.5])
def test_removed_is_the_share_of_the_regularizer_that_is_gone(kappa):
    """|λr - r'| / |λr|, where the cap and the rule each take their part, too."""
    g, r = network(0), network(3)  # agree in one layer, and are opposed in the other

    @jax.jit
    def by_rules(g, r):
        options = {"granularity": "layer", "max_ratio": kappa}
        return [update(dtnh(2.0, on_conflict=x, **options), g, r) for x in RULES]

    for rule, (d, state) in zip(RULES, by_rules(g, r), strict=True):
        removed = []
        for g_, r_, d_ in check.groups("layer", g, r, d):
            whole = 2 * r_
            if check.dot(g_, r_) < 0 and rule != "ignore":
                whole = 2 * check.project(g_, r_) if rule == "project" else 0 * r_
            expected, kept = g_ + whole, whole
            if kappa is not None:
                expected, kept = check.step(g_, g_, 2 * r_, kappa, rule)
            np.testing.assert_allclose(d_, expected, 1e-5, 1e-6)
            removed.append(check.norm(2 * r_ - kept) / check.norm(2 * r_))
        np.testing.assert_allclose(state.conflict.removed, removed, 1e-5, 1e-6)


def test_a_zero_gradient_is_in_no_conflict():
    """And where neither is there, a cap of κ·0 is no reason for 0/0."""
    zero = jax.tree.map(jnp.zeros_like, G)

    @jax.jit
    def by_rules(g, r):
        both = [(rule, kappa) for rule in RULES for kappa in (None, 0.5)]
        return [update(dtnh(on_conflict=x, max_ratio=k), g, r) for x, k in both]

    for g, r in ((zero, R), (G, zero), (zero, zero)):
        for (d, state), capped in zip(by_rules(g, r), [False, True] * 3, strict=True):
            assert state.conflict.cosine == 0
            assert state.conflict.count == 0
            gone = capped and g is zero and r is R  # |r'| <= κ·0
            assert bool(state.conflict.removed) == gone
            added = zero if gone else r
            chex.assert_trees_all_equal(d, g if r is zero else added)


def test_the_cosine_of_parallel_gradients_is_not_beyond_one():
    """As rounding would have it for one pair in several."""
    cosines = jax.jit(jax.vmap(lambda g, r: update(dtnh(), g, r)[1].conflict.cosine))
    g = np.random.default_rng(0).standard_normal((1000, 3)).astype(np.float32)
    assert cosines(g, g).max() == 1
    assert cosines(g, -g).min() == -1


@pytest.fixture(scope="module")
def cosine():
    """One compiled program."""
    return jax.jit(lambda g, r: update(dtnh(), g, r)[1].conflict.cosine)


@pytest.mark.parametrize("g_scale", [1e-37, 1e-25, 1e-15, 2e-9, 1.0, 1e17])
@pytest.mark.parametrize("r_scale", [1e-37, 1e-25, 1e-15, 2e-9, 1.0, 1e17])
def test_the_cosine_is_right_at_every_scale_or_zero(cosine, g_scale, r_scale):
    g, r = conflicting(g_scale, r_scale)
    zero = min(g_scale, r_scale) < 1e-16
    expected = 0.0 if zero else check.dot(*check.vectors(g, r))
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


@pytest.mark.parametrize("count", [1, 31, 32, 33, 70])
@pytest.mark.parametrize("bad", [0.0, np.inf, np.nan])
def test_each_group_gets_its_own_numbers(count, bad):
    """Which a CPU takes from a vector by masks: they must not spread a NaN."""
    tree = {f"w{k:02}": np.zeros(2) for k in range(count)} | {"x": np.zeros((4, 2))}
    groups = _groups.divide(tree, "leaf", {"x": 0})
    vectors = np.random.default_rng(0).standard_normal((2, count + 4))
    vectors[:, count // 2] += bad
    taken = _sums.scalars(jnp.asarray(vectors, np.float32), groups)
    expected = [*vectors[:, :count].T, vectors[:, count:]]
    chex.assert_trees_all_equal(taken, [np.float32(x) for x in expected])


def test_the_weight_is_one_by_default():
    rest = project_conflict(GradientPair(G, R))
    expected = jax.tree.map(jnp.add, G, rest)
    chex.assert_trees_all_close(update(dtnh())[0], expected, rtol=2e-6, atol=1e-7)


def test_arguments_may_come_by_name():
    by_name = GradientPair(regularizer=R, empirical=G)
    chex.assert_trees_all_equal(
        project_conflict(pair=by_name), project_conflict(GradientPair(G, R))
    )
    tx = dtnh(inner=optax.add_decayed_weights(0.5))
    state = tx.init(G)
    pair = GradientPair(G, R)
    named, _ = tx.update(updates=pair, state=state, params=R)
    chex.assert_trees_all_equal(named, tx.update(pair, state, R)[0])


def test_a_tree_without_numbers_has_a_state_without_groups():
    tx = dtnh(granularity="leaf")
    state = tx.init({})
    _, new = tx.update(GradientPair({}, {}), state)
    chex.assert_trees_all_equal_shapes_and_dtypes(new, state)


def test_a_share_of_a_regularizer_of_length_one():
    _, state = update(dtnh(), jnp.array([1.0, 0.0]), jnp.array([-1.0, 0.0]))
    assert state.conflict.removed == 1


def test_what_is_dropped_stays_dropped_under_a_cap():
    d, state = update(dtnh(on_conflict="drop", max_ratio=1.0))
    chex.assert_trees_all_equal(d, G)
    assert state.conflict.removed == 1


def test_float32_stays_float32_where_float64_is_switched_on():
    with jax.enable_x64(True):
        half = jnp.float64(0.5)
        tx = dtnh(half, max_ratio=half)
        d, state = jax.eval_shape(lambda g, r: update(tx, g, r), G, R)
        assert {x.dtype for x in jax.tree.leaves((d, state.conflict[:3]))} == {
            np.dtype(np.float32)
        }


def test_complex128_is_summed_in_complex128():
    rng = np.random.default_rng(0)
    g, r = rng.standard_normal((2, 7)) + 1j * rng.standard_normal((2, 7))
    with jax.enable_x64(True):
        kept = project_conflict(GradientPair(jnp.asarray(g), jnp.asarray(r - g)))
    assert kept.dtype == np.complex128
    g_, r_, kept_ = check.vectors(g, r - g, kept)
    assert check.dot(g_, r_) < 0
    check.assert_close(kept_, check.project(g_, r_), np.finfo(np.float64).eps)


def test_steps_are_counted_in_whole_numbers():
    """In float32, counting stops at 2^24."""
    state = update(dtnh(), G, R)[1]
    assert state.count.dtype == state.conflict.count.dtype == np.int32


def test_names_that_read_the_same_are_distinct_in_the_report():
    params = {"a/b": {"w": jnp.ones(2)}, "a": {"b": {"w": jnp.ones(2)}}}
    report = conflict_report(dtnh(granularity="layer").init(params))
    assert set(report) == {"['a/b']", "['a']['b']"}


def test_leaves_may_be_plain_numbers():
    assert project_conflict(GradientPair({"w": 2.0}, {"w": -1.0}))["w"] == 0
    assert update(dtnh(), {"w": 2.0}, {"w": -1.0})[0]["w"] == 2


@pytest.mark.parametrize(("wrong", "error"), [("layers", ValueError), (3, TypeError)])
def test_a_wrong_granularity_is_refused_by_the_function_too(wrong, error):
    with pytest.raises(error, match="`granularity` must be"):
        project_conflict(GradientPair(G, R), granularity=wrong)
