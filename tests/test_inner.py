"""G8: through an optimizer, <g, d> >= <g, u>; and what may be passed as ``inner``."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from samplers import G, R
from sklearn.datasets import load_digits

from dtnh_jax import GradientPair, dtnh, dtnh_adamw

pytestmark = pytest.mark.usefixtures("lenient_promotion")

OPTIMIZERS = {
    "adam": optax.scale_by_adam(),
    "nesterov": optax.trace(0.9, nesterov=True),
    "lion": optax.scale_by_lion(),
}
STEPS = 200


def weights(seed):
    rng = np.random.default_rng(seed)
    return [
        jnp.float32(rng.normal(0, n**-0.5, (n, m))) for n, m in ((64, 32), (32, 10))
    ]


def loss(params, images, labels):
    scores = jax.nn.relu(images @ params[0]) @ params[1]
    return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()


def slowed(tx, optimizer):
    """Share of the steps in which d makes the loss fall slower than u = optimizer(g).

    Trains on digits, with L2-SP towards random, that is harmful, parameters. In
    float64, and beyond what rounding d to float32 can do.
    """
    images, labels = load_digits(return_X_y=True)
    images, labels = jnp.float32(images[:200] / 16), jnp.asarray(labels[:200])
    params, anchor = weights(0), weights(1)

    def step(carry, rows):
        params, state, other = carry
        g = jax.grad(loss)(params, images[rows], labels[rows])
        r = jax.tree.map(jnp.subtract, params, anchor)
        d, state = tx.update(g, state, params, regularizer_grads=r)
        u, other = optimizer.update(g, other, params)
        params = jax.tree.map(lambda w, x: w - 0.01 * x, params, d)
        return (params, state, other), (g, r, d, u)

    start = params, tx.init(params), optimizer.init(params)
    rows = np.random.default_rng(0).integers(0, len(labels), (STEPS, 20))
    _, trees = jax.lax.scan(step, start, rows)
    g, r, d, u = (
        np.concatenate([np.reshape(x, (STEPS, -1)) for x in jax.tree.leaves(tree)], 1)
        for tree in jax.tree.map(np.float64, trees)
    )
    g_size, r_size, u_size = (np.linalg.norm(x, axis=1) for x in (g, r, u))
    rounding = 8 * np.finfo(np.float32).eps * g_size * (u_size + r_size)
    return np.mean(np.sum(g * (d - u), axis=1) < -rounding)


@pytest.mark.parametrize(
    ("name", "granularity"),
    [("adam", "leaf"), ("nesterov", "global"), ("lion", "leaf")],
)
def test_never_slower_than_the_optimizer_in_any_step(name, granularity):
    inner = OPTIMIZERS[name]
    assert slowed(dtnh(granularity=granularity, inner=inner), inner) == 0


def test_projecting_before_adam_is_slower_in_most_steps():
    """Why ``inner`` exists."""
    tx = optax.chain(dtnh(), optax.scale_by_adam())
    assert slowed(tx, optax.scale_by_adam()) > 0.5


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
        chex.assert_trees_all_close(d, jax.tree.map(lambda g, k=step: g * k, G))
        assert seen[-1] == (R, 7)
        assert state.inner == step + 1


# Masks and labels for the tree of the parameters alone: {"a": ..., "b": ...}.
MASK = {"a": True, "b": False}
LATE = optax.linear_schedule(0.0, 1e-3, 10)
WHOLE = {
    "sgd": optax.sgd(0.1, momentum=0.9),
    "lamb with a mask": optax.lamb(1e-3, mask=MASK),
    "partition, one half": optax.partition(
        {"train": optax.adam(1e-3), "freeze": optax.scale_by_adam()},
        {"a": "train", "b": "freeze"},
    ),
    "partition by the number of axes": optax.partition(
        {"train": optax.adam(1e-3), "freeze": optax.set_to_zero()},
        lambda tree: jax.tree.map(lambda x: ["freeze", "train"][x.ndim - 1], tree),
    ),
    "masked, first array unchanged": optax.masked(
        optax.sgd(0.1), {"a": False, "b": True}
    ),
    "MultiSteps": optax.MultiSteps(optax.adam(1e-3), 2).gradient_transformation(),
    "a rate that starts at zero": optax.adam(LATE),
    "an injected rate and mask": optax.inject_hyperparams(
        optax.adamw, static_args=("mask",)
    )(learning_rate=LATE, mask=MASK),
    "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_optimizer_as_inner_is_refused(name):
    """It would add the regularizer with the wrong sign."""
    tx = dtnh(inner=WHOLE[name])
    for init in (tx.init, jax.jit(tx.init)):
        with pytest.raises(ValueError, match="`inner` negates updates"):
            init(G)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.complex64])
def test_it_is_refused_whatever_the_dtype_and_the_other_leaves(dtype):
    params = {"a": jnp.ones(2, dtype), "b": None, "e": jnp.zeros((0, 3), dtype)}
    tx = dtnh(inner=optax.adamw(1e-3, mask={"a": True, "b": None, "e": False}))
    with pytest.raises(ValueError, match="`inner` negates updates"):
        tx.init(params)


def fail(*_, **__):
    raise RuntimeError("needs a value")


@pytest.mark.parametrize(
    "inner",
    [
        *OPTIMIZERS.values(),
        optax.set_to_zero(),
        optax.centralize(),
        optax.add_noise(1.0, 0.5, jax.random.key(0)),
        optax.masked(optax.trace(0.9), MASK),
        optax.MultiSteps(optax.scale_by_adam(), 2).gradient_transformation(),
        optax.scale_by_schedule(optax.linear_schedule(0.0, 1.0, 10)),
        # What gives NaN says nothing of a sign.
        optax.chain(optax.scale_by_adam(b2=1.0), optax.scale(-1.0)),
        optax.GradientTransformation(lambda _: optax.EmptyState(), fail),
    ],
)
def test_what_does_not_negate_or_cannot_be_tried_is_let_through(inner):
    tx = dtnh(inner=inner)
    for state in (tx.init(G), jax.jit(tx.init)(G)):
        chex.assert_trees_all_equal_structs(state.inner, inner.init(G))


def test_numbers_that_are_not_known_yet_are_let_through():
    """And in bfloat16, in which they are injected, 0.999 is 1, and Adam gives NaN."""
    state = jax.jit(lambda rate: dtnh(inner=optax.sgd(rate)).init(G))(0.1)
    assert state.count == 0
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), G)
    tx = optax.inject_hyperparams(dtnh_adamw)(learning_rate=1e-3)
    for init in (tx.init, jax.jit(tx.init)):
        assert init(params).hyperparams["b2"].dtype == jnp.bfloat16
