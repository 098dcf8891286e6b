"""Half precision with a dynamic loss scale: overflows do not poison the average."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dtnh_jax import dtnh, pair_value_and_grad, skip_nonfinite, skip_report

STEPS = 100
DECAY = 0.9
RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((16, 8))
LABELS = 10 + 10 * RNG.standard_normal((16, 1))
PRETRAINED = {
    "layer0": jnp.asarray(RNG.standard_normal((8, 8)) / 3, jnp.float32),
    "layer1": jnp.asarray(RNG.standard_normal((8, 1)) / 3, jnp.float32),
}
DTNH = optax.chain(dtnh(0.1, reference_decay=DECAY), optax.sgd(3e-3))


def losses(params):
    """The loss and the L2-SP penalty, in the precision of ``params``."""
    dtype = params["layer0"].dtype
    images, labels = jnp.asarray(IMAGES, dtype), jnp.asarray(LABELS, dtype)
    predicted = jnp.tanh(images @ params["layer0"]) @ params["layer1"]
    away = [jnp.sum((w - PRETRAINED[k].astype(dtype)) ** 2) for k, w in params.items()]
    return jnp.mean((predicted - labels) ** 2), away[0] + away[1]


def cast(tree, dtype):
    return jax.tree.map(lambda x: x.astype(dtype), tree)


def train(tx, dtype, scale):
    """Parameters and state at the end; and of each step g, and if all was finite."""

    def step(carry, _):
        params, state, scale, good = carry

        def scaled(half):
            return tuple(scale.astype(dtype) * x for x in losses(half))

        _, pair = pair_value_and_grad(scaled)(cast(params, dtype))
        # Both halves were scaled: both are unscaled, where there is room for it.
        pair = jax.tree.map(lambda x: x / scale, cast(pair, jnp.float32))
        updates, state = tx.update(pair, state, params)
        finite = jnp.all(
            jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(pair)])
        )
        good = jnp.where(finite, good + 1, 0) % 20
        scale = scale * jnp.where(finite, jnp.where(good == 0, 2.0, 1.0), 0.5)
        carry = optax.apply_updates(params, updates), state, scale, good
        return carry, (pair.empirical, finite)

    start = PRETRAINED, tx.init(PRETRAINED), jnp.float32(scale), jnp.int32(0)
    run = jax.jit(functools.partial(jax.lax.scan, step, length=STEPS))
    (params, state, *_), seen = run(start)
    return params, state, *seen


@pytest.mark.parametrize(
    ("dtype", "scale"), [(jnp.float16, 2.0**15), (jnp.bfloat16, 2.0**126)]
)
def test_the_average_is_that_of_the_finite_steps(dtype, scale):
    params, state, gradients, finite = train(skip_nonfinite(DTNH), dtype, scale)
    overflows = STEPS - int(finite.sum())
    assert overflows >= 3  # the scale grows into overflow again and again
    assert skip_report(state)["skipped"] == overflows
    dtnh_state = state.inner_state[0]
    assert dtnh_state.count == STEPS - overflows
    for leaf, average in dtnh_state.reference.items():
        expected = np.zeros_like(average)
        for g in np.asarray(gradients[leaf])[np.asarray(finite)]:
            expected = DECAY * expected + (1 - DECAY) * g
        np.testing.assert_allclose(average, expected, 1e-4, 1e-5)
    before, after = (jax.jit(losses)(w)[0] for w in (PRETRAINED, params))
    assert after < 0.5 * before


def test_one_overflow_that_is_not_skipped_stays_in_the_average():
    """A test of the test, and why ``skip_nonfinite`` exists."""
    _, state, *_ = train(DTNH, jnp.float16, 2.0**15)
    assert not np.isfinite(state[0].reference["layer0"]).any()
