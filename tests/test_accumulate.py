"""``multi_steps``: the update of one large batch, from several small ones."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from samplers import at, fill

from dtnh_jax import (
    GradientPair,
    conflict_report,
    dtnh,
    dtnh_sgd,
    l2,
    l2_sp,
    mix_regularizers,
    multi_steps,
)

pytestmark = pytest.mark.usefixtures("lenient_promotion")

# Two arrays in two groups: every array more costs a quarter of a second a program.
SHAPES = {"body": {"kernel": (8, 2)}, "head": {"bias": (2,)}}
START, PRETRAINED, AWAY = (
    fill(SHAPES, np.random.default_rng(seed), np.float32) for seed in range(3)
)
SMALL, LARGE, EVERY = 8, 32, 4


def batches(size, count):
    """``count`` batches of examples, each example a target and an anchor.

    Targets are on one side of the start and anchors on the other, so that there is
    conflict on the whole, and far apart, so that there is not in every small batch.
    """

    def examples(where, seed):
        noise = np.random.default_rng(seed).normal(0, 2, (size * count, *where.shape))
        return (where + noise.astype(np.float32)).reshape(count, size, *where.shape)

    targets = jax.tree.map(lambda w, a: examples(w + a, a.size), START, AWAY)
    anchors = jax.tree.map(lambda w, a: examples(w - a, a.size + 1), START, AWAY)
    return [at((targets, anchors), k) for k in range(count)]


def given(form, params, batch):
    """Gradients of losses that are means over the batch: ``|w - target|² / 2``, ..."""
    g, r = (
        jax.tree.map(lambda w, c: np.mean(w - c, axis=0), params, centers)
        for centers in batch
    )
    return (GradientPair(g, r), {}) if form == "pair" else (g, {"regularizer_grads": r})


def train(tx, form, data):
    """Parameters after every step, and the last state; compiles once."""
    params, state, seen = START, tx.init(START), []
    update = jax.jit(tx.update, donate_argnums=1)
    for batch in data:
        grads, kwargs = given(form, params, batch)
        updates, state = update(grads, state, params, **kwargs)
        params = jax.tree.map(np.add, params, updates)
        seen.append(params)
    assert update._cache_size() == 1
    return seen, state


def near(actual, expected, rtol=2e-4):
    """Equal up to rounding, relative to the distance from the start."""
    for x, y, w in zip(*map(jax.tree.leaves, (actual, expected, START)), strict=True):
        moved = np.abs(y - w).max()
        np.testing.assert_allclose(x, y, 0, rtol * moved)
        assert moved > 0


SGD = optax.chain(dtnh(3.0, granularity="layer"), optax.sgd(0.1, momentum=0.9))
OPTIMIZERS = {
    "sgd": ("pair", SGD),
    "adam": ("keyword", optax.chain(SGD, optax.scale_by_adam(eps=1e-3))),
    # The regularizer that is passed in is the third of the mix.
    "mix": (
        "keyword",
        optax.chain(
            mix_regularizers(l2_sp(pretrained=PRETRAINED), l2(mask=True)),
            dtnh_sgd(0.1, momentum=0.9),
        ),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_the_large_batch(name):
    form, tx = OPTIMIZERS[name]
    small, state = train(multi_steps(tx, EVERY), form, batches(SMALL, 24))
    large, expected = train(tx, form, batches(LARGE, 6))
    for step in range(6):
        near(small[EVERY * step + EVERY - 1], large[step])
    assert (state.gradient_step, state.mini_step) == (6, 0)
    # Conflict is judged once an update.
    conflicts = conflict_report(state), conflict_report(expected)
    rates = [[group["rate"] for group in report.values()] for report in conflicts]
    np.testing.assert_array_equal(*rates)
    assert max(rates[0]) > 0


def test_updates_are_zero_in_between_and_the_state_waits():
    tx = multi_steps(SGD, EVERY)
    state, update = tx.init(START), jax.jit(tx.update)
    pair, _ = given("pair", START, batches(SMALL, 1)[0])
    for step in range(1, 2 * EVERY + 1):
        before = state
        updates, state = update(pair, state, START)
        if step % EVERY == 0:
            assert all(np.not_equal(u, 0).any() for u in jax.tree.leaves(updates))
            assert not any(np.any(m) for m in jax.tree.leaves(state.acc_grads))
        else:
            assert not any(np.any(u) for u in jax.tree.leaves(updates))
            chex.assert_trees_all_equal(state.inner_opt_state, before.inner_opt_state)
        assert (state.mini_step, state.gradient_step) == (step % EVERY, step // EVERY)
        emitted = optax.MultiSteps(optax.sgd(1), EVERY).has_updated(state)
        assert emitted == (step % EVERY == 0)


def test_every_k_may_be_a_schedule_of_the_updates():
    data = batches(SMALL, 9)
    small, state = train(
        multi_steps(SGD, lambda n: jnp.where(n < 1, 1, 4)), "pair", data
    )
    assert state.gradient_step == 3
    rounds = [
        jax.tree.map(lambda *x: np.concatenate(x), *data[rows])
        for rows in (slice(0, 1), slice(1, 5), slice(5, 9))
    ]
    large, _ = train(SGD, "pair", rounds)
    for k, step in enumerate((0, 4, 8)):
        near(small[step], large[k])


G = {"w": np.ones(2, np.float32)}


@pytest.mark.parametrize("kind", [np.int64, jnp.int32, "traced"])
def test_every_k_may_be_an_integer_of_any_kind(kind):
    state = multi_steps(dtnh(), 2).init(G)

    def two_updates(k):
        tx = multi_steps(dtnh(), k)
        first, between = tx.update(GradientPair(G, G), state)
        return first["w"], tx.update(GradientPair(G, G), between)[0]["w"]

    with jax.numpy_dtype_promotion("strict"):
        found = jax.jit(two_updates)(2) if kind == "traced" else two_updates(kind(2))
    np.testing.assert_array_equal(found, [[0, 0], [2, 2]])


def test_what_is_not_finite_comes_out_once():
    tx = multi_steps(dtnh(), 2)
    state, update = tx.init(G), jax.jit(tx.update)
    for bad in (np.nan, np.inf):
        bad = {"w": np.array([bad, 1], np.float32)}
        updates, state = update(GradientPair(G, bad), state)
        np.testing.assert_array_equal(updates["w"], 0)
        updates, state = update(GradientPair(G, G), state)
        assert not np.isfinite(updates["w"]).all()
    for _ in range(2):
        updates, state = update(GradientPair(G, G), state)
    np.testing.assert_array_equal(updates["w"], 2)


def test_what_takes_the_keyword_alone_gets_the_keyword():
    mask = {"body": True, "head": False}
    tx = optax.masked(SGD, mask, mask_compatible_extra_args=True)
    small, _ = train(multi_steps(tx, EVERY), "keyword", batches(SMALL, EVERY))
    large, _ = train(tx, "keyword", batches(LARGE, 1))
    near(small[-1], large[-1])


def test_extra_arguments_reach_the_transformation():
    scale = optax.GradientTransformationExtraArgs(
        lambda _: optax.EmptyState(),
        lambda u, s, p=None, *, value, **_: (jax.tree.map(lambda x: x * value, u), s),
    )
    tx = multi_steps(optax.chain(dtnh(), scale), 1)
    updates, _ = tx.update(GradientPair(G, G), tx.init(G), G, value=5.0)
    np.testing.assert_array_equal(updates["w"], 10)


@pytest.mark.parametrize("form", ["pair", "keyword"])
def test_gradients_that_are_none(form):
    """As in Optax; the parameters may then be no arrays."""
    tx = multi_steps(dtnh(reference_decay=0.5), 2)
    params = {"frozen": np.ones(3, "f"), "act": jnp.tanh, **G}
    none = {"frozen": None, "act": None}
    state = tx.init(params)
    for k, expected in enumerate((0, 1.5, 0, 4.5)):
        g, r = ({**none, "w": np.full(2, x, "f")} for x in (1 + k, 1))
        pair, kwargs = GradientPair(g, r), {}
        if form == "keyword":
            pair, kwargs = g, {"regularizer_grads": r}
        updates, state = tx.update(pair, state, params, **kwargs)
        chex.assert_trees_all_close(updates, {**none, "w": np.full(2, expected, "f")})
    for half in state.acc_grads:
        assert half["act"] is None
        np.testing.assert_array_equal(half["frozen"], 0)


@pytest.mark.parametrize(
    ("dtype", "small", "wide"),
    [
        ("bfloat16", 2.0**-7, "float32"),  # a quarter of it would be lost next to 1
        ("complex64", 2.0**-22, "complex64"),
        ("float64", 2.0**-50, "float64"),
    ],
)
def test_means_are_taken_in_float32_at_least(dtype, small, wide):
    with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion("strict"):
        one = np.ones(2, jnp.dtype(dtype))
        tx = multi_steps(dtnh(0.0), 4)
        state, update = tx.init({"w": one}), jax.jit(tx.update)
        assert {x.dtype.name for x in jax.tree.leaves(state.acc_grads)} == {wide}
        for k in range(4):
            x = {"w": one + np.asarray(small * (k == 3) * 4, one.dtype)}
            updates, state = update(GradientPair(x, x), state)
        assert updates["w"].dtype == one.dtype
        np.testing.assert_array_equal(updates["w"], 1 + small)


def test_halves_of_different_precision():
    r = {"w": -jnp.ones(2, jnp.bfloat16)}
    tx = multi_steps(dtnh(), 1)
    updates, _ = tx.update(GradientPair(G, r), tx.init(G))
    np.testing.assert_allclose(updates["w"], [1, 1], 1e-6)
    assert updates["w"].dtype == jnp.float32


def updated(tx, pair):
    tx = multi_steps(tx, 2)
    return tx.update(pair, tx.init(G), G)


ANCHORED = optax.chain(l2_sp(), dtnh())
REFUSED = {
    "`tx` must be an optax.Gradient": lambda: multi_steps(dtnh, 2),
    "`every_k` must be at least 1, got 0": lambda: multi_steps(dtnh(), 0),
    "`every_k` must be an integer, got 2.0": lambda: multi_steps(dtnh(), 2.0),
    "two gradients but got one: use optax.MultiSteps": lambda: updated(ANCHORED, G),
    "nothing at ['w']": lambda: updated(dtnh(), GradientPair(G, {"v": G["w"]})),
    "l2_sp makes the pair": lambda: updated(ANCHORED, GradientPair(G, G)),
}


@pytest.mark.parametrize("says", REFUSED)
def test_refused_with_words(says):
    with pytest.raises((TypeError, ValueError), match=re.escape(says)):
        REFUSED[says]()
