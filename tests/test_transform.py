"""``dtnh``: what it adds up, its call forms, its state, and its place in Optax."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import properties as check
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samplers import fill, pairs
from test_projection import DTYPES, GRANULARITIES, conflicting, groups
from trees import at, close, stack

from dtnh_jax import GradientPair, conflict_report, dtnh

G, R = conflicting()
NETWORK = {"conv": {"kernel": (2, 3), "bias": (2,)}, "head": {"temperature": ()}}


def network(seed):
    return jax.tree.map(
        jnp.asarray, fill(NETWORK, np.random.default_rng(seed), np.float32)
    )


def update(tx, g=G, r=R, **kwargs):
    """One update of a new state, in the pair form."""
    return tx.update(GradientPair(g, r), tx.init(g), **kwargs)


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
        g, r = pair.empirical, pair.regularizer
        d = step(g, r)
        assert all(x.dtype == dtype for x in jax.tree.leaves(d))
        for g_, r_, d_ in groups(granularity, g, r, d):
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
    for g_, r_, projected, dropped, plain in groups(granularity, g, r, *d):
        opposed = check.dot(g_, r_) < 0
        seen.add(opposed)
        np.testing.assert_allclose(plain, g_ + 2 * r_, 1e-5, 1e-6)
        np.testing.assert_allclose(dropped, g_ if opposed else g_ + 2 * r_, 1e-5, 1e-6)
        expected = g_ + 2 * check.project(g_, r_)
        np.testing.assert_allclose(projected, expected, 1e-5, 1e-6)
    assert seen == ({True} if granularity == "global" else {True, False})


@jax.jit
def capped_and_free(g, r, weight, kappa):
    return [update(dtnh(weight, max_ratio=k), g, r)[0] for k in (kappa, None)]


@given(
    pairs(np.float32, 6),
    st.sampled_from([1e-3, 0.1, 1.0, 10.0]),
    st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_max_ratio_caps_the_regularizer_and_changes_nothing_below(pair, kappa, weight):
    """|r'| <= κ|g|, for every weight; and r' keeps its direction."""
    g, r = pair.empirical, pair.regularizer
    capped, free = capped_and_free(g, r, weight, kappa)
    g_, c_, f_ = check.vectors(g, capped, free)
    c_, f_ = c_ - g_, f_ - g_
    eps = check.epsilon(np.float32)
    rounding = check.SLACK * eps * (check.norm(g_) + check.norm(c_))
    assert check.norm(c_) <= kappa * check.norm(g_) + rounding
    if check.norm(f_) < 0.9 * kappa * check.norm(g_):
        check.assert_close(c_, f_, eps, size=check.norm(g_) + check.norm(f_))


def test_max_ratio_of_the_plain_sum_caps_it_too():
    tx = dtnh(100.0, on_conflict="ignore", max_ratio=0.5)
    d, state = jax.jit(lambda g, r: update(tx, g, r))(G, R)
    g_, d_ = check.vectors(G, d)
    np.testing.assert_allclose(check.norm(d_ - g_), 0.5 * check.norm(g_), 1e-5)
    removed = 1 - 0.5 * check.norm(g_) / (100 * check.norm(check.vectors(R)[0]))
    np.testing.assert_allclose(state.conflict.removed, [removed], 1e-5)


def test_pair_and_keyword_agree_bit_for_bit():
    tx = dtnh()
    keyword = tx.update(G, tx.init(G), regularizer_grads=R)
    jax.tree.map(np.testing.assert_array_equal, update(tx), keyword)


def test_other_extra_arguments_are_ignored():
    tx = dtnh()
    jax.tree.map(np.testing.assert_array_equal, update(tx), update(tx, value=1.0))


def test_weight_may_be_a_schedule():
    tx = dtnh(optax.linear_schedule(0.0, 5.0, 10))
    state = tx.init(G)
    for step in range(3):
        d, state = tx.update(GradientPair(G, R), state)
        close(d, update(dtnh(0.5 * step))[0], 2e-6, 1e-7)
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
    close(d, plain(0.5), 2e-6, 1e-7)
    state.hyperparams["weight"] = jnp.float32(2.0)
    d, _ = step(G, R, state)
    close(d, plain(2.0), 2e-6, 1e-7)
    scheduled = make(weight=optax.constant_schedule(0.5))
    d, expected = jax.jit(lambda: [update(tx)[0] for tx in (scheduled, dtnh(0.5))])()
    close(d, expected, 2e-6, 1e-7)


def test_halves_of_different_precision_are_summed_and_typed_as_the_empirical_one():
    g = jax.tree.map(lambda x: x.astype(jnp.bfloat16), G)
    d, _ = update(dtnh(), g, R)
    assert {x.dtype for x in jax.tree.leaves(d)} == {np.dtype(jnp.bfloat16)}
    expected, _ = update(dtnh(), jax.tree.map(lambda x: x.astype(jnp.float32), g), R)
    close(jax.tree.map(lambda x: x.astype(jnp.float32), d), expected, 1e-2, 1e-7)


@pytest.mark.parametrize("rule", ["project", "drop", "ignore"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("kappa", [None, 0.5])
def test_what_is_not_finite_is_not_swallowed(half, bad, rule, kappa):
    pair = [dict(G), dict(R)]
    pair[half]["a"] = pair[half]["a"].at[0].set(bad)
    d, _ = update(dtnh(on_conflict=rule, max_ratio=kappa), *pair)
    assert not np.isfinite(d["a"]).all()


def test_apply_if_finite_behind_it_skips_a_broken_regularizer():
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
    params = network(0)
    traces = []

    def step(params, state, r):
        traces.append(1)
        updates, state = tx.update(GradientPair(params, r), state, params)
        return optax.apply_updates(params, updates), state

    r = network(1)
    jitted = jax.jit(step, donate_argnums=(0, 1))
    fresh = functools.partial(jax.tree.map, jnp.copy, (params, tx.init(params)))
    looped = fresh()
    for _ in range(3):
        looped = jitted(*looped, r)
    assert len(traces) == 1
    scanned, _ = jax.lax.scan(lambda c, _: (step(*c, r), None), fresh(), length=3)
    close(looped, scanned, 2e-6, 1e-7)


def test_vmap_over_seeds():
    tx = dtnh(granularity="leaf")
    g, r = (stack(*map(network, seeds)) for seeds in ((0, 1), (2, 3)))

    def first(g, r):
        return update(tx, g, r)

    d, states = jax.jit(jax.vmap(first))(g, r)
    alone = jax.jit(first)
    for i in range(2):
        expected, state = alone(network(i), network(i + 2))
        close(at(d, i), expected, 2e-6, 1e-7)
        close(at(states, i), state, 2e-6, 1e-7)
    report = conflict_report(states)["conv/kernel"]
    assert report["cosine"].shape == (2,)


def test_state_maps_as_optax_expects():
    tx = optax.chain(dtnh(granularity="layer"), optax.trace(0.9))
    state = tx.init(network(0))
    doubled = optax.tree.map_params(tx, lambda x: x + 1, state)
    assert doubled[0] is not state[0]
    jax.tree.map(np.testing.assert_array_equal, doubled[0], state[0])
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
        (pair_of(G, None), TypeError, "regularizer half of the pair is None"),
        (pair_of(None, R), TypeError, "empirical half of the pair is None"),
        (pair_of(GradientPair(G, R), R), TypeError, "itself a GradientPair"),
        (
            lambda tx: tx.update(GradientPair(G, R), tx.init(G), regularizer_grads=R),
            ValueError,
            "given twice",
        ),
        (pair_of(G, {"a": R["a"]}), ValueError, r"nothing at \['b'\]"),
        (pair_of(G, {**R, "c": R["a"]}), ValueError, r"empirical .*nothing at \['c'\]"),
        (pair_of(G, frozen(R)), ValueError, "a FrozenDict at the root.* a dict"),
        (
            pair_of({"m": G}, {"m": frozen(R)}),
            ValueError,
            r"a FrozenDict at \['m'\], empirical gradient a dict",
        ),
        (pair_of({"m": [G, G]}, {"m": [R]}), ValueError, r"nothing at \['m'\]\[1\]"),
        (pair_of({"m": G}, {"m": R["a"]}), ValueError, r"shape \(2,\) at \['m'\]"),
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
        ({"weight": -1.0}, ValueError, "`weight` must not be negative, got -1.0"),
        ({"weight": np.nan}, ValueError, "`weight` must not be negative, got nan"),
        ({"weight": "1"}, TypeError, "`weight` must be a number, got '1'"),
        ({"weight": G}, TypeError, "`weight` must be a number"),
        ({"max_ratio": 0.0}, ValueError, "`max_ratio` must be positive, got 0.0"),
        ({"max_ratio": -1.0}, ValueError, "`max_ratio` must be positive, got -1.0"),
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
    with pytest.raises(ValueError, match=r"1 groups, but the parameters .* into 2"):
        tx.update(GradientPair({"a": G["a"]}, {"a": R["a"]}), tx.init(G))
