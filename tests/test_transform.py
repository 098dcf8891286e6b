"""``dtnh``: what it adds up, its call forms, its state, and its place in Optax."""

import functools
import itertools

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
    GRANULARITIES,
    G,
    R,
    network,
    pairs,
    update,
)
from trees import stack

from dtnh_jax import GradientPair, conflict_report, dtnh

close = functools.partial(chex.assert_trees_all_close, rtol=2e-6, atol=1e-7)


def typed(name, granularity):
    """Types by layer, granularities in float32: the others have nothing of their own.

    What is added here to the projection, of which every pair of the two is tested, is
    one sum and its rounding.
    """
    few = name in ("float32", "bfloat16", "float64", "complex64")
    fast = name == "float32" or (granularity == "layer" and few)
    return pytest.param(name, granularity, marks=[] if fast else pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "granularity"),
    [typed(*both) for both in itertools.product(DTYPES, GRANULARITIES)],
)
def test_never_slower(name, granularity):
    """G2, and that d = g + λr' with r' from the oracle."""
    dtype, decades = DTYPES[name]
    eps = check.epsilon(dtype)
    weight = 0.3
    tx = dtnh(weight, granularity=granularity)
    step = jax.jit(lambda g, r: update(tx, g, r)[0])

    @given(pairs(dtype, decades // 2))
    def holds(pair):
        g, r = pair
        d = step(g, r)
        assert all(x.dtype == dtype for x in jax.tree.leaves(d))
        for g_, r_, d_ in check.groups(granularity, g, r, d):
            check.assert_never_slower(g_, weight * r_, d_, eps)
            expected = g_ + weight * check.project(g_, r_)
            size = check.norm(g_) + check.norm(r_)
            check.assert_close(d_, expected, eps, size=size)

    with jax.enable_x64(name == "float64"):
        holds()


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_rules(granularity):
    g, r = network(0), network(3)  # agree in one layer, and are opposed on the whole

    @jax.jit
    def by_rules(g, r):
        optimizers = [
            dtnh(2.0, on_conflict=rule, granularity=granularity)
            for rule in ("project", "drop", "ignore")
        ]
        return [update(tx, g, r)[0] for tx in optimizers]

    d = by_rules(g, r)
    seen = set()
    for g_, r_, projected, dropped, plain in check.groups(granularity, g, r, *d):
        opposed = check.dot(g_, r_) < 0
        seen.add(opposed)
        np.testing.assert_allclose(plain, g_ + 2 * r_, 1e-5, 1e-6)
        np.testing.assert_allclose(dropped, g_ if opposed else g_ + 2 * r_, 1e-5, 1e-6)
        expected = g_ + 2 * check.project(g_, r_)
        np.testing.assert_allclose(projected, expected, 1e-5, 1e-6)
    assert seen == ({True} if granularity == "global" else {True, False})


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


def test_max_ratio_of_the_plain_sum_caps_it_too():
    tx = dtnh(100.0, on_conflict="ignore", max_ratio=0.5)
    d, state = jax.jit(lambda g, r: update(tx, g, r))(G, R)
    g_, r_, d_ = check.vectors(G, R, d)
    expected, _ = check.step(g_, g_, 100 * r_, 0.5, "ignore")
    np.testing.assert_allclose(d_, expected, 1e-5, 1e-6)
    removed = 1 - 0.5 * check.norm(g_) / (100 * check.norm(check.vectors(R)[0]))
    np.testing.assert_allclose(state.conflict.removed, [removed], 1e-5)


def test_pair_and_keyword_agree_bit_for_bit():
    tx = dtnh()
    keyword = tx.update(G, tx.init(G), regularizer_grads=R)
    chex.assert_trees_all_equal(update(tx), keyword)


def test_other_extra_arguments_are_ignored():
    tx = dtnh()
    chex.assert_trees_all_equal(update(tx), update(tx, value=1.0))


def test_weight_may_be_a_schedule():
    tx = dtnh(optax.linear_schedule(0.0, 5.0, 10))
    state = tx.init(G)
    for step in range(3):
        d, state = tx.update(GradientPair(G, R), state)
        close(d, update(dtnh(0.5 * step))[0])
    assert state.count == 3


def test_numbers_may_be_injected_hyperparameters():
    make = optax.inject_hyperparams(dtnh)
    tx = make(weight=0.5, max_ratio=0.25, granularity="leaf")
    state = tx.init(G)
    step = jax.jit(lambda g, r, s: tx.update(GradientPair(g, r), s))

    @jax.jit
    def plain(weight):
        return update(dtnh(weight, max_ratio=0.25, granularity="leaf"))[0]

    d, state = step(G, R, state)
    close(d, plain(0.5))
    state.hyperparams["weight"] = jnp.float32(2.0)
    d, _ = step(G, R, state)
    close(d, plain(2.0))
    scheduled = make(weight=optax.constant_schedule(0.5))
    d, expected = jax.jit(lambda: [update(tx)[0] for tx in (scheduled, dtnh(0.5))])()
    close(d, expected)


@pytest.mark.parametrize("inner", [None, optax.trace(0.9)])
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
    empirical, regularizer, expected, inner
):
    """And is rounded to it once: 256 + 0.25 needs more than the 8 bits of bfloat16."""
    with jax.enable_x64(True):
        g = {"w": jnp.array([256.0, 2.0], empirical)}
        r = {"w": jnp.array([0.25, -1.0], regularizer)}
        d, state = update(dtnh(0.5, inner=inner), g, r)
        assert d["w"].dtype == expected
        chex.assert_trees_all_equal_dtypes(state.conflict, dtnh().init(G).conflict)
        exact = np.array([256.125, 1.5]) if expected != "bfloat16" else [256.0, 1.5]
        np.testing.assert_array_equal(d["w"], exact)


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
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_missing_gradient_gives_a_missing_update(granularity, options, other):
    """Also where parameters, and the state, have an array or something else."""
    absent = jax.tree.map(lambda _: None, other)
    tx = dtnh(granularity=granularity, **options)
    params = {**network(0), **other}
    state, plain = tx.init(params), tx.init(network(0))
    for seed in (1, 3, 5):
        g, r = network(seed), network(seed + 1)
        pair = GradientPair({**g, **absent}, {**r, **absent})
        d, state = tx.update(pair, state, params)
        expected, plain = tx.update(GradientPair(g, r), plain, network(0))
        chex.assert_trees_all_equal(d, {**expected, **absent})
        chex.assert_trees_all_equal_structs(state.reference, tx.init(params).reference)
    report = conflict_report(state)
    for name, values in conflict_report(plain).items():
        assert report.pop(name) == values
    assert all(values == dict.fromkeys(values, 0) for values in report.values())


@pytest.mark.parametrize("rule", ["project", "drop", "ignore"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("kappa", [None, 0.5])
def test_non_finite_inputs_propagate(half, bad, rule, kappa):
    pair = [dict(G), dict(R)]
    pair[half]["a"] = pair[half]["a"].at[0].set(bad)
    d, _ = update(dtnh(on_conflict=rule, max_ratio=kappa), *pair)
    assert not np.isfinite(d["a"]).all()


def test_apply_if_finite_after_it_skips_a_broken_regularizer():
    tx = optax.chain(dtnh(), optax.apply_if_finite(optax.sgd(1.0), 5))
    d, state = update(tx, G, {**R, "a": R["a"] * jnp.nan})
    assert all((x == 0).all() for x in jax.tree.leaves(d))
    assert state[1].total_notfinite == 1


@pytest.mark.parametrize(
    "granularity",
    ["layer", *(pytest.param(k, marks=pytest.mark.slow) for k in ("global", "leaf"))],
)
def test_one_compilation_and_a_state_that_scans_and_donates(granularity):
    tx = optax.chain(dtnh(granularity=granularity), optax.sgd(0.1, momentum=0.9))
    params, r = network(0), network(1)

    def step(params, state, r):
        updates, state = tx.update(GradientPair(params, r), state, params)
        return optax.apply_updates(params, updates), state

    jitted = jax.jit(chex.assert_max_traces(step, 1), donate_argnums=(0, 1))
    fresh = functools.partial(jax.tree.map, jnp.copy, (params, tx.init(params)))
    looped = fresh()
    for _ in range(3):
        looped = jitted(*looped, r)
    scanned, _ = jax.lax.scan(lambda c, _: (step(*c, r), None), fresh(), length=3)
    close(looped, scanned)


def test_vmap_over_seeds():
    tx = dtnh(granularity="leaf")
    pairs_ = [GradientPair(network(i), network(i + 2)) for i in range(2)]

    def first(pair):
        return update(tx, *pair)

    d, states = jax.jit(jax.vmap(first))(stack(*pairs_))
    alone = [jax.jit(first)(pair) for pair in pairs_]
    close((d, states), stack(*alone))
    report = conflict_report(states)["conv/kernel"]
    assert report["cosine"].shape == (2,)


def test_state_maps_as_optax_expects():
    tx = optax.chain(dtnh(granularity="layer"), optax.trace(0.9))
    state = tx.init(network(0))
    doubled = optax.tree.map_params(tx, lambda x: x + 1, state)
    assert doubled[0] is not state[0]
    chex.assert_trees_all_equal(doubled[0], state[0])
    assert all((x == 1).all() for x in jax.tree.leaves(doubled[1]))


def test_count_of_conflicts():
    tx = dtnh()
    state = tx.init(G)
    for sign in (1.0, -1.0, 1.0, 1.0):
        _, state = tx.update(
            GradientPair(G, jax.tree.map(lambda x, s=sign: s * x, R)), state
        )
    assert conflict_report(state)["global"]["rate"] == 0.75


def pair_of(g, r):
    return lambda tx: tx.update(GradientPair(g, r), tx.init(G))


frozen = pytest.importorskip("flax.core").freeze


@pytest.mark.parametrize(
    ("act", "error", "says"),
    [
        (lambda tx: tx.update((G, R), tx.init(G)), TypeError, "GradientPair"),
        (lambda tx: tx.update(G, tx.init(G)), TypeError, "got one dict"),
        (pair_of(G, None), TypeError, "regularizer half of the pair is NoneType"),
        (pair_of(None, R), TypeError, "empirical half of the pair is NoneType"),
        (
            pair_of(GradientPair(G, R), R),
            TypeError,
            "empirical half of the pair is GradientPair",
        ),
        (
            lambda tx: tx.update(GradientPair(G, R), tx.init(G), regularizer_grads=R),
            ValueError,
            "given twice",
        ),
        (pair_of(G, {"a": R["a"]}), ValueError, r"nothing at \['b'\]"),
        (
            pair_of(G, {**R, "c": R["a"]}),
            ValueError,
            r"at \['c'\], empirical .*nothing",
        ),
        (pair_of(G, frozen(R)), ValueError, "FrozenDict at the root.* dict"),
        (
            pair_of({"m": G}, {"m": frozen(R)}),
            ValueError,
            r"FrozenDict at \['m'\], empirical gradient dict",
        ),
        (pair_of({"m": [G, G]}, {"m": [R]}), ValueError, r"nothing at \['m'\]\[1\]"),
        (pair_of({"m": G}, {"m": R["a"]}), ValueError, r"float32\[2\] at \['m'\], emp"),
        (
            pair_of(G, {**R, "b": R["b"][0]}),
            ValueError,
            r"shape \(1,\) at \['b'\], empirical gradient \(1, 1\)",
        ),
        (
            pair_of(G, {**R, "b": jnp.ones((1, 1), int)}),
            TypeError,
            r"int32 at \['b'\], empirical gradient float32",
        ),
        (pair_of(G, {**R, "b": R["b"].astype(complex)}), TypeError, "complex64"),
        (
            pair_of(jax.tree.map(lambda x: x.astype(int), G), R),
            TypeError,
            "empirical gradient int32",
        ),
    ],
)
def test_a_wrong_pair_is_refused_with_words(act, error, says):
    with pytest.raises(error, match=says):
        act(dtnh())


@pytest.mark.parametrize(
    ("kwargs", "error", "says"),
    [
        ({"weight": -1.0}, ValueError, "`weight` must be non-negative, got -1.0"),
        ({"weight": np.nan}, ValueError, "`weight` must be non-negative, got nan"),
        ({"weight": "1"}, TypeError, "`weight` must be a number, got '1'"),
        ({"weight": G}, TypeError, "`weight` must be a number"),
        ({"max_ratio": 0.0}, ValueError, "must be above 0 and at most 1, got 0.0"),
        ({"max_ratio": 1.5}, ValueError, "`max_ratio` must be above 0 and at most 1"),
        ({"max_ratio": np.ones(3)}, TypeError, "`max_ratio` must be a number"),
        ({"on_conflict": "projet"}, ValueError, '"project", "drop", "ignore", got'),
        ({"granularity": "layers"}, ValueError, '"global", "layer", "leaf", got'),
        ({"granularity": 3}, TypeError, "got 3"),
        ({"granularity": None}, TypeError, "got None"),
    ],
)
def test_a_wrong_argument_is_refused_at_once(kwargs, error, says):
    with pytest.raises(error, match=says):
        dtnh(**kwargs)


def test_gradients_in_other_groups_than_the_parameters_are_refused():
    tx = dtnh(granularity="leaf")
    with pytest.raises(ValueError, match=r"1 groups, but the parameters .* formed 2"):
        tx.update(GradientPair({"a": G["a"]}, {"a": R["a"]}), tx.init(G))
