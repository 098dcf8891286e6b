"""``multi_steps``: the update of one large batch, from several small ones."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from samplers import fill
from trees import at, stack

from dtnh_jax import (
    GradientPair,
    conflict_report,
    dtnh,
    dtnh_sgd,
    l2,
    l2_sp,
    mix_regularizers,
    multi_steps,
    skip_nonfinite,
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

    Targets lie on one side of the start and anchors on the other, so that there is
    conflict on the whole, and far apart, so that there is not in every small batch.
    """

    def examples(where, scale, seed):
        noise = np.random.default_rng(seed).normal(0, 2, (size * count, *where.shape))
        rows = where + scale * noise.astype(np.float32)
        return rows.reshape(count, size, *where.shape)

    targets = jax.tree.map(lambda w, a: examples(w + a, 1, a.size), START, AWAY)
    anchors = jax.tree.map(lambda w, a: examples(w - a, 1, a.size + 1), START, AWAY)
    return [at((targets, anchors), k) for k in range(count)]


def pair_form(params, batch):
    """Of losses that are means over the batch: ``|w - target|² / 2``, and likewise."""

    def gradient(centers):
        return jax.tree.map(lambda w, c: np.mean(w - c, axis=0), params, centers)

    return GradientPair(*map(gradient, batch)), {}


def keyword_form(params, batch):
    pair, _ = pair_form(params, batch)
    return pair.empirical, {"regularizer_grads": pair.regularizer}


FORMS = {"pair": pair_form, "keyword": keyword_form}


@functools.cache
def optimizer(inner=None, granularity="layer", last=None):
    last = optax.sgd(0.1, momentum=0.9) if last is None else last
    return optax.chain(dtnh(3.0, granularity=granularity, inner=inner), last)


@functools.cache
def steady():
    """The pair's regularizer is a third member."""
    anchored = l2_sp(pretrained=PRETRAINED)
    return optax.chain(
        mix_regularizers(anchored, l2(mask=True)), dtnh_sgd(0.1, momentum=0.9)
    )


@functools.cache
def accumulating(tx):
    return multi_steps(tx, EVERY)


@functools.cache
def skipping(tx):
    """Single micro-steps are skipped."""
    return skip_nonfinite(accumulating(tx))


@functools.cache
def updater(tx):
    """``tx.update``, compiled once for all tests; gives up its state."""
    return jax.jit(tx.update, donate_argnums=1)


def train(tx, form, data, params=START):
    """Parameters after every step, and the last state. Nothing is compiled anew."""
    state, seen = tx.init(params), []
    programs = None
    for batch in data:
        given, kwargs = FORMS[form](params, batch)
        updates, state = updater(tx)(given, state, params, **kwargs)
        programs = programs or updater(tx)._cache_size()
        assert updater(tx)._cache_size() == programs
        params = jax.tree.map(np.add, params, updates)
        seen.append(params)
    return seen, state


def near(actual, expected, rtol=2e-4):
    """Parameters that went the same way but for rounding, by the length of the way."""
    for x, y, w in zip(*map(jax.tree.leaves, (actual, expected, START)), strict=True):
        moved = np.abs(y - w).max()
        np.testing.assert_allclose(x, y, 0, rtol * moved)
        assert moved > 0


ADAM = optax.scale_by_adam(eps=1e-3)


@pytest.mark.parametrize(
    ("form", "tx"),
    [
        ("pair", optimizer()),
        ("keyword", optimizer(inner=ADAM)),
        ("pair", optimizer(granularity="global")),
        ("pair", optimizer(last=optax.chain(ADAM, optax.scale(-1e-2)))),
        ("keyword", steady()),
    ],
    ids=["sgd", "inner", "global", "adam", "mix"],
)
def test_equals_the_large_batch(form, tx):
    small, state = train(accumulating(tx), form, batches(SMALL, 24))
    large, expected = train(tx, form, batches(LARGE, 6))
    for step in range(6):
        near(small[EVERY * step + EVERY - 1], large[step])
    assert (state.gradient_step, state.mini_step) == (6, 0)
    # Conflict is judged once an update.
    conflicts = conflict_report(state), conflict_report(expected)
    rates = [[group["rate"] for group in report.values()] for report in conflicts]
    np.testing.assert_array_equal(*rates)
    assert max(rates[0]) > 0


@pytest.mark.parametrize(
    ("form", "tx"),
    [
        ("keyword", optax.MultiSteps(optimizer(), EVERY)),
        (
            "pair",
            optax.chain(
                dtnh(3.0, granularity="layer"),
                optax.MultiSteps(
                    optax.sgd(0.1, momentum=0.9), EVERY
                ).gradient_transformation(),
            ),
        ),
    ],
    ids=["the last regularizer", "mean of projections"],
)
def test_the_check_sees_what_optax_accumulates(form, tx):
    """A test of the test, and why ``multi_steps`` exists."""
    tx = optax.GradientTransformationExtraArgs(tx.init, tx.update)
    small, _ = train(tx, form, batches(SMALL, 8))
    large, _ = train(optimizer(), "pair", batches(LARGE, 2))
    with pytest.raises(AssertionError):
        near(small[7], large[1], rtol=1e-2)


def test_updates_are_zero_in_between_and_the_state_waits():
    tx = accumulating(optimizer())
    state = tx.init(START)
    pair, _ = pair_form(START, batches(SMALL, 1)[0])
    for step in range(1, 2 * EVERY + 1):
        before = jax.device_get(state)
        updates, state = updater(tx)(pair, state, START)
        if step % EVERY == 0:
            assert all(np.not_equal(u, 0).any() for u in jax.tree.leaves(updates))
            assert not any(np.any(m) for m in jax.tree.leaves(state.acc_grads))
        else:
            jax.tree.map(lambda u: np.testing.assert_array_equal(u, 0), updates)
            jax.tree.map(
                np.testing.assert_array_equal,
                state.inner_opt_state,
                before.inner_opt_state,
            )
        assert (state.mini_step, state.gradient_step) == (step % EVERY, step // EVERY)
        emitted = optax.MultiSteps(optax.sgd(1), EVERY).has_updated(state)
        assert emitted == (step % EVERY == 0)


def test_every_k_may_be_a_schedule_of_the_updates():
    tx = multi_steps(optimizer(), lambda n: jnp.where(n < 1, 1, 4))
    data = batches(SMALL, 9)
    small, state = train(tx, "pair", data)
    assert state.gradient_step == 3
    rounds = [
        jax.tree.map(lambda *x: np.concatenate(x), *data[rows])
        for rows in (slice(0, 1), slice(1, 5), slice(5, 9))
    ]
    large, _ = train(optimizer(), "pair", rounds)
    for k, step in enumerate((0, 4, 8)):
        near(small[step], large[k])


G = {"w": np.ones(2, np.float32)}


@pytest.mark.parametrize("kind", [np.int64, jnp.int32])
def test_every_k_may_be_an_integer_of_any_kind(kind):
    with jax.numpy_dtype_promotion("strict"):
        tx = multi_steps(dtnh(), kind(2))
        state, update = tx.init(G), jax.jit(tx.update)
        for expected in (0, 2):
            updates, state = update(GradientPair(G, G), state)
            np.testing.assert_array_equal(updates["w"], expected)


def test_every_k_may_be_traced():
    state = multi_steps(dtnh(), 2).init(G)
    update = jax.jit(lambda k: multi_steps(dtnh(), k).update(GradientPair(G, G), state))
    for k, expected in ((1, 2), (2, 0)):
        np.testing.assert_array_equal(update(k)[0]["w"], expected)


@pytest.mark.parametrize(
    ("form", "half", "value"),
    [
        ("pair", "empirical", np.nan),
        ("keyword", "regularizer", np.inf),
    ],
)
def test_steps_that_are_not_finite_are_skipped(form, half, value):
    """As if they had not been: the first, one within, and the last of a round."""
    clean = batches(SMALL, 8)
    broken = spoiled(clean[0], half, value)
    data = list(clean)
    for k in (0, 5, 7, 8):
        data.insert(k, broken)
    tx = skipping(optimizer())
    actual, state = train(tx, form, data)
    expected, other = train(tx, form, clean)
    near(actual[-1], expected[-1], rtol=1e-5)
    for held, skipped in ((state, 4), (other, 0)):
        assert held.skipped == skipped
        steps = held.inner_state
        assert (steps.gradient_step, steps.mini_step) == (2, 0)


def spoiled(batch, half, value):
    """With one number in one example that makes one gradient not finite."""
    halves = jax.tree.map(np.copy, batch)
    halves[GradientPair._fields.index(half)]["body"]["kernel"][0, 0, 0] = value
    return halves


def test_what_is_not_finite_and_not_skipped_comes_out_once():
    tx = multi_steps(dtnh(), 2)
    state = tx.init(G)
    update = jax.jit(tx.update)
    for bad in (np.nan, np.inf):
        bad = {"w": np.array([bad, 1], np.float32)}
        updates, state = update(GradientPair(G, bad), state)
        np.testing.assert_array_equal(updates["w"], 0)
        updates, state = update(GradientPair(G, G), state)
        assert not np.isfinite(updates["w"]).all()
    for _ in range(2):
        updates, state = update(GradientPair(G, G), state)
    np.testing.assert_array_equal(updates["w"], 2)


def injected():
    return optax.inject_hyperparams(dtnh)(weight=0.5)


def masked():
    """Takes the keyword form alone."""
    tx = optax.chain(dtnh(), optax.sgd(0.1))
    mask = {"body": True, "head": False}
    return optax.masked(tx, mask, mask_compatible_extra_args=True)


@pytest.mark.parametrize(
    ("tx", "form"),
    [(injected(), "pair"), (masked(), "keyword")],
    ids=["inject", "mask"],
)
def test_what_takes_one_form_gets_that_form(tx, form):
    small, _ = train(multi_steps(tx, EVERY), form, batches(SMALL, EVERY))
    large, _ = train(tx, form, batches(LARGE, 1))
    near(small[-1], large[-1])


def test_extra_arguments_reach_the_transformation():
    def update_fn(updates, state, params=None, *, value, **extra):
        return jax.tree.map(lambda x: x * value, updates), state

    scale = optax.GradientTransformationExtraArgs(
        lambda _: optax.EmptyState(), update_fn
    )
    tx = multi_steps(optax.chain(dtnh(), scale), 1)
    updates, _ = jax.jit(tx.update)(GradientPair(G, G), tx.init(G), G, value=5.0)
    np.testing.assert_array_equal(updates["w"], 10)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_that_are_none(form):
    """As in Optax; and parameters may then be no arrays."""
    tx = multi_steps(dtnh(reference_decay=0.5), 2)
    params = {"frozen": np.ones(3, "f"), "act": jnp.tanh, **G}
    none = {"frozen": None, "act": None}
    state = tx.init(params)
    for k, expected in enumerate((0, 1.5, 0, 4.5)):
        g, r = ({**none, "w": np.full(2, x, "f")} for x in (1 + k, 1))
        given, kwargs = GradientPair(g, r), {}
        if form == "keyword":
            given, kwargs = g, {"regularizer_grads": r}
        updates, state = tx.update(given, state, params, **kwargs)
        chex.assert_trees_all_close(updates, {**none, "w": np.full(2, expected, "f")})
    for half in state.acc_grads:
        assert half["act"] is None
        np.testing.assert_array_equal(half["frozen"], 0)


def test_the_state_scans():
    """That it is donated, and compiled once, every test here says through ``train``."""
    tx = accumulating(optimizer())
    data = [pair_form(START, batch)[0] for batch in batches(SMALL, EVERY + 1)]

    def step(carry, given):
        params, state = carry
        updates, state = tx.update(given, state, params)
        return (optax.apply_updates(params, updates), state), None

    start = START, tx.init(START)
    scanned, state = jax.lax.scan(step, start, stack(*data))[0]
    looped, held = START, tx.init(START)
    for given in data:
        updates, held = updater(tx)(given, held, looped)
        looped = jax.tree.map(np.add, looped, updates)
    near(looped, scanned)
    chex.assert_trees_all_equal_shapes_and_dtypes(held, state)


def test_vmap_over_seeds():
    tx = accumulating(optimizer())
    pairs = [pair_form(START, batch)[0] for batch in batches(SMALL, 2 * EVERY)]
    rounds = [stack(pairs[k], pairs[EVERY + k]) for k in range(EVERY)]
    starts = stack(START, PRETRAINED)
    update, state = jax.jit(jax.vmap(tx.update)), jax.vmap(tx.init)(starts)
    for pair in rounds:
        mapped, state = update(pair, state, starts)
    for seed in range(2):
        alone = tx.init(START)
        for pair in pairs[EVERY * seed : EVERY * (seed + 1)]:
            updates, alone = updater(tx)(pair, alone, START)
        chex.assert_trees_all_close(at(mapped, seed), updates, rtol=1e-5, atol=1e-6)
        assert all(np.any(x) for x in jax.tree.leaves(updates))


def test_means_are_taken_in_float32_at_least_and_come_in_the_gradients_dtype():
    """In bfloat16 a quarter of 2^-5 would be lost beside 1."""
    with jax.numpy_dtype_promotion("strict"):
        for dtype, small in ((jnp.bfloat16, 2.0**-7), (jnp.complex64, 2.0**-22)):
            one = np.ones(2, dtype)
            tx = multi_steps(dtnh(0.0), 4)
            state, update = tx.init({"w": one}), jax.jit(tx.update)
            wide = {x.dtype for x in jax.tree.leaves(state.acc_grads)}
            assert wide == {np.dtype("float32" if dtype == jnp.bfloat16 else dtype)}
            for k in range(4):
                x = {"w": one + np.asarray(small * (k == 3) * 4, dtype)}
                updates, state = update(GradientPair(x, x), state)
            assert updates["w"].dtype == dtype
            np.testing.assert_array_equal(updates["w"], 1 + small)
    with jax.enable_x64(True):
        g = {"w": np.full(2, 1 / 3)}
        tx = multi_steps(dtnh(0.0), 2)
        state, update = tx.init(g), jax.jit(tx.update)
        for _ in range(2):
            updates, state = update(GradientPair(g, g), state)
        np.testing.assert_allclose(updates["w"], 1 / 3, 1e-15)


def test_halves_of_different_precision():
    r = {"w": -jnp.ones(2, jnp.bfloat16)}
    tx = multi_steps(dtnh(), 2)
    state, update = tx.init(G), jax.jit(tx.update)
    for _ in range(2):
        updates, state = update(GradientPair(G, r), state)
    np.testing.assert_allclose(updates["w"], [1, 1], 1e-6)
    assert updates["w"].dtype == jnp.float32


def test_inside_nnx_optimizer():
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    start = jax.tree.map(jnp.copy, nnx.state(model, nnx.Param))
    tx = multi_steps(optax.chain(dtnh(), optax.sgd(1.0)), 2)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    ones = jax.tree.map(jnp.ones_like, start)
    step = nnx.jit(lambda m, o, g, r: o.update(m, g, regularizer_grads=r))
    for k in range(2):
        r = jax.tree.map(lambda x, k=k: 2.0 * k * x, ones)
        step(model, optimizer, ones, r)
        moved = jax.tree.map(jnp.subtract, nnx.state(model, nnx.Param), start)
        jax.tree.map(
            lambda x, k=k: np.testing.assert_allclose(x, -2.0 * k, 1e-6), moved
        )


def updated(tx, given):
    tx = multi_steps(tx, 2)
    return tx.update(given, tx.init(G), G)


@pytest.mark.parametrize(
    ("act", "error", "says"),
    [
        (lambda: multi_steps(dtnh, 2), TypeError, "`tx` must be an optax.Gradient"),
        (
            lambda: multi_steps(dtnh(), 0),
            ValueError,
            "`every_k` must be at least 1, got 0",
        ),
        (lambda: multi_steps(dtnh(), 2.0), TypeError, "must be an integer, got 2.0"),
        (lambda: multi_steps(dtnh(), "2"), TypeError, "`every_k` must be a number"),
        (
            lambda: updated(optax.chain(l2_sp(), dtnh()), G),
            TypeError,
            "averages two gradients but got one: use optax.MultiSteps",
        ),
        (
            lambda: updated(dtnh(), GradientPair(G, {"v": G["w"]})),
            ValueError,
            r"nothing at \['w'\]",
        ),
        (
            lambda: updated(optax.chain(l2_sp(), dtnh()), GradientPair(G, G)),
            TypeError,
            "l2_sp makes the pair: pass it the empirical gradient alone",
        ),
    ],
)
def test_refused_with_words(act, error, says):
    with pytest.raises(error, match=says):
        act()
