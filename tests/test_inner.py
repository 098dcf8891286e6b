"""G8, the promise through an optimizer: <g, d> >= <g, u> in every step of real runs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import training
from test_transform import G, R, update
from trees import close

from dtnh_jax import GradientPair, dtnh

pytestmark = pytest.mark.usefixtures("lenient_promotion")

OPTIMIZERS = {
    "adam": optax.scale_by_adam(),
    "adamw": optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(0.1)),
    "nesterov": optax.trace(0.9, nesterov=True),
    "lion": optax.scale_by_lion(),
    "rmsprop": optax.scale_by_rms(),
}
STEPS = 300


def slowed(tx, optimizer):
    """Share of the steps in which d makes the loss fall slower than u = optimizer(g).

    In float64, and beyond what rounding d to float32 can do.
    """
    trees = training.gradients(tx, optimizer, STEPS)
    g, r, d, u = (
        np.concatenate([np.reshape(x, (STEPS, -1)) for x in jax.tree.leaves(tree)], 1)
        for tree in trees
    )
    g, r, d, u = (x.astype(np.float64) for x in (g, r, d, u))
    norm = functools.partial(np.linalg.norm, axis=1)
    rounding = 8 * np.finfo(np.float32).eps * norm(g) * (norm(u) + norm(r))
    return np.mean(np.sum(g * (d - u), axis=1) < -rounding)


@pytest.mark.parametrize(
    "granularity",
    ["global", *(pytest.param(x, marks=pytest.mark.slow) for x in ("layer", "leaf"))],
)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_never_slower_than_the_optimizer_in_any_step(name, granularity):
    optimizer = OPTIMIZERS[name]
    assert slowed(dtnh(granularity=granularity, inner=optimizer), optimizer) == 0


@pytest.mark.parametrize(
    "name",
    [
        name if name == "adam" else pytest.param(name, marks=pytest.mark.slow)
        for name in OPTIMIZERS
    ],
)
def test_the_check_sees_what_the_plain_sum_does(name):
    """A test of the test: without projection the promise is broken in most steps."""
    optimizer = OPTIMIZERS[name]
    assert slowed(dtnh(on_conflict="ignore", inner=optimizer), optimizer) > 0.5


def test_projecting_before_adam_breaks_the_promise():
    """Why ``inner`` exists."""
    tx = optax.chain(dtnh(), optax.scale_by_adam())
    assert slowed(optax.with_extra_args_support(tx), optax.scale_by_adam()) > 0.5


def test_max_ratio_and_reference_decay_go_with_inner():
    inner = optax.scale_by_adam()
    free, _ = update(dtnh(inner=inner, on_conflict="ignore"))
    both = dtnh(inner=inner, max_ratio=0.1, reference_decay=0.9)
    capped, _ = jax.jit(lambda g, r: update(both, g, r))(G, R)
    u, _ = inner.update(G, inner.init(G))
    norm = optax.tree.norm
    rest = optax.tree.sub(capped, u)
    np.testing.assert_allclose(norm(rest), 0.1 * norm(G), 1e-4)
    close(optax.tree.sub(free, u), R, 2e-6, 1e-7)


def test_parameters_extra_arguments_and_schedules_reach_inner():
    seen = []

    def update_fn(updates, state, params=None, *, value, **extra):
        seen.append((params, value))
        return jax.tree.map(lambda g: g * state, updates), state + 1

    inner = optax.GradientTransformationExtraArgs(lambda _: jnp.float32(1), update_fn)
    tx = dtnh(0.0, inner=inner)
    state = tx.init(G)
    for step in range(1, 3):
        d, state = tx.update(GradientPair(G, R), state, R, value=7)
        close(d, jax.tree.map(lambda g, step=step: g * step, G), 2e-6, 1e-7)
        assert seen[-1] == (R, 7)
        assert state.inner == step + 1


def test_inner_works_injected_and_under_jit_with_one_compilation():
    make = optax.inject_hyperparams(dtnh, static_args=("inner",))
    tx = make(weight=0.5, inner=optax.scale_by_adam())
    step = jax.jit(lambda g, r, s: tx.update(GradientPair(g, r), s))
    state = tx.init(G)
    for _ in range(3):
        d, state = step(G, R, state)
    assert step._cache_size() == 1
    expected = dtnh(0.5, inner=optax.scale_by_adam())
    other = expected.init(G)
    for _ in range(3):
        e, other = expected.update(GradientPair(G, R), other)
    close(d, e, 2e-6, 1e-7)


def test_the_result_keeps_the_gradients_dtype():
    g = jax.tree.map(lambda x: x.astype(jnp.bfloat16), G)
    inner = optax.chain(
        optax.scale_by_adam(mu_dtype=jnp.float32), optax.scale(jnp.float32(1))
    )
    d, _ = update(dtnh(inner=inner), g, R)
    assert {x.dtype for x in jax.tree.leaves(d)} == {np.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("wrong", [0.9, "adam", optax.adam, lambda g: g])
def test_inner_must_be_a_transformation(wrong):
    with pytest.raises(TypeError, match=r"`inner` must be an optax\.Gradient.*got"):
        dtnh(inner=wrong)


DOWNHILL = {
    "sgd": optax.sgd(0.1, momentum=0.9),
    "adamw": optax.adamw(1e-3),
    "a rate that starts at zero": optax.adam(optax.linear_schedule(0.0, 1e-3, 10)),
    "a rate in a chain": optax.chain(optax.scale_by_adam(), optax.scale(-1e-3)),
    "an injected rate": optax.inject_hyperparams(optax.adam)(learning_rate=1e-3),
}


@pytest.mark.parametrize("name", DOWNHILL)
def test_a_whole_optimizer_as_inner_is_refused(name):
    """It would add the regularizer with the wrong sign."""
    tx = dtnh(inner=DOWNHILL[name])
    for init in (tx.init, jax.jit(tx.init)):
        with pytest.raises(ValueError, match="`inner` turns the gradient round"):
            init(G)


@pytest.mark.parametrize(
    "inner",
    [
        *OPTIMIZERS.values(),
        optax.set_to_zero(),
        # Made for the tree of the parameters alone.
        optax.masked(optax.trace(0.9), {"a": True, "b": False}),
    ],
)
def test_what_points_uphill_or_cannot_be_tried_is_let_through(inner):
    assert dtnh(inner=inner).init(G).inner is not None


def test_a_learning_rate_that_is_not_known_yet_is_let_through():
    state = jax.jit(lambda rate: dtnh(inner=optax.sgd(rate)).init(G))(0.1)
    assert state.count == 0
