"""G8: through an optimizer, <g, d> >= <g, u> in every step of real runs."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import training
from samplers import G, R

from dtnh_jax import GradientPair, dtnh, dtnh_adamw

pytestmark = pytest.mark.usefixtures("lenient_promotion")
close = functools.partial(chex.assert_trees_all_close, rtol=2e-6, atol=1e-7)

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
    """A test of the test: without projection it fails in most steps."""
    optimizer = OPTIMIZERS[name]
    assert slowed(dtnh(on_conflict="ignore", inner=optimizer), optimizer) > 0.5


def test_projecting_before_adam_is_slower_in_most_steps():
    """Why ``inner`` exists."""
    tx = optax.chain(dtnh(), optax.scale_by_adam())
    assert slowed(optax.with_extra_args_support(tx), optax.scale_by_adam()) > 0.5


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
        close(d, jax.tree.map(lambda g, step=step: g * step, G))
        assert seen[-1] == (R, 7)
        assert state.inner == step + 1


def test_inner_works_injected_and_under_jit_with_one_compilation():
    make = optax.inject_hyperparams(dtnh, static_args=("inner",))
    tx = make(weight=0.5, inner=optax.scale_by_adam())

    def step(pair, state):
        return tx.update(pair, state)

    jitted, state = jax.jit(chex.assert_max_traces(step, 1)), tx.init(G)
    for _ in range(3):
        d, state = jitted(GradientPair(G, R), state)
    expected = dtnh(0.5, inner=optax.scale_by_adam())
    other = expected.init(G)
    for _ in range(3):
        e, other = expected.update(GradientPair(G, R), other)
    close(d, e)


@pytest.mark.parametrize(
    "wrong",
    [0.9, "adam", optax.adam, lambda g: g, optax.MultiSteps(optax.adam(0.1), 2)],
)
def test_inner_must_be_a_transformation(wrong):
    with pytest.raises(TypeError, match=r"`inner` must be an optax\.Gradient.*got"):
        dtnh(inner=wrong)


# Masks and labels for the tree of the parameters alone: {"a": ..., "b": ...}.
MASK = {"a": True, "b": False}
LABELS = {"a": "train", "b": "freeze"}
LATE = optax.linear_schedule(0.0, 1e-3, 10)
WHOLE = {
    "sgd": optax.sgd(0.1, momentum=0.9),
    "adamw": optax.adamw(1e-3),
    "adamw with a mask": optax.adamw(1e-3, mask=MASK),
    "lamb with a mask": optax.lamb(1e-3, mask=MASK),
    "partition": optax.partition(
        {"train": optax.adam(1e-3), "freeze": optax.set_to_zero()}, LABELS
    ),
    "partition, one half": optax.partition(
        {"train": optax.adam(1e-3), "freeze": optax.scale_by_adam()}, LABELS
    ),
    "partition by the number of axes": optax.partition(
        {"train": optax.adam(1e-3), "freeze": optax.set_to_zero()},
        lambda tree: jax.tree.map(lambda x: ["freeze", "train"][x.ndim - 1], tree),
    ),
    "masked": optax.masked(optax.sgd(0.1), MASK),
    "masked, first array unchanged": optax.masked(
        optax.sgd(0.1), {"a": False, "b": True}
    ),
    "a freeze tree": optax.chain(
        optax.adam(1e-3), optax.masked(optax.set_to_zero(), MASK)
    ),
    "MultiSteps": optax.MultiSteps(optax.adam(1e-3), 2).gradient_transformation(),
    "apply_if_finite": optax.apply_if_finite(optax.sgd(1.0), 3),
    "a rate that starts at zero": optax.adam(LATE),
    "a mask, and a rate that starts at zero": optax.adamw(LATE, mask=MASK),
    "a rate in a chain": optax.chain(optax.scale_by_adam(), optax.scale(-1e-3)),
    "an injected rate": optax.inject_hyperparams(optax.adam)(learning_rate=1e-3),
    "an injected rate and mask": optax.inject_hyperparams(
        optax.adamw, static_args=("mask",)
    )(learning_rate=LATE, mask=MASK),
    "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_optimizer_as_inner_is_refused(name):
    """It would add the regularizer with the wrong sign."""
    tx = dtnh(inner=WHOLE[name])
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), G)
    calls = (lambda: tx.init(G), lambda: jax.jit(tx.init)(G))
    for init in (*calls, lambda: jax.eval_shape(tx.init, abstract)):
        with pytest.raises(ValueError, match="`inner` negates updates"):
            init()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.complex64])
def test_it_is_refused_whatever_the_dtype_and_the_other_leaves(dtype):
    params = {"a": jnp.ones(2, dtype), "b": None, "e": jnp.zeros((0, 3), dtype)}
    tx = dtnh(inner=optax.adamw(1e-3, mask={"a": True, "b": None, "e": False}))
    with pytest.raises(ValueError, match="`inner` negates updates"):
        tx.init(params)


@pytest.mark.parametrize(
    "inner",
    [
        *OPTIMIZERS.values(),
        optax.set_to_zero(),
        optax.centralize(),
        optax.add_noise(1.0, 0.5, jax.random.key(0)),
        optax.masked(optax.trace(0.9), MASK),
        optax.add_decayed_weights(0.1, MASK),
        optax.MultiSteps(optax.scale_by_adam(), 2).gradient_transformation(),
        optax.scale_by_schedule(optax.linear_schedule(0.0, 1.0, 10)),
        # What gives NaN says nothing of a sign.
        optax.scale_by_adam(b2=1.0),
        optax.chain(optax.scale_by_adam(b2=1.0), optax.scale(-1.0)),
    ],
)
def test_what_does_not_negate_or_cannot_be_tried_is_let_through(inner):
    tx = dtnh(inner=inner)
    for state in (tx.init(G), jax.jit(tx.init)(G)):
        chex.assert_trees_all_equal_structs(state.inner, inner.init(G))


def test_injected_numbers_that_round_to_one_are_let_through():
    """In bfloat16, as parameters have it, 0.999 is 1, and Adam gives NaN."""
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), G)
    tx = optax.inject_hyperparams(dtnh_adamw)(learning_rate=1e-3)
    for init in (tx.init, jax.jit(tx.init)):
        assert init(params).hyperparams["b2"].dtype == jnp.bfloat16


def test_a_learning_rate_that_is_not_known_yet_is_let_through():
    state = jax.jit(lambda rate: dtnh(inner=optax.sgd(rate)).init(G))(0.1)
    assert state.count == 0


def test_a_failure_while_trying_is_let_through():
    def fail(*_, **__):
        raise RuntimeError("needs a value")

    inner = optax.GradientTransformation(lambda _: optax.EmptyState(), fail)
    assert dtnh(inner=inner).init(G).count == 0
