"""A small classifier on real digits: the runs on which guarantees are checked."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits


@functools.cache
def digits(count=200):
    images, labels = load_digits(return_X_y=True)
    return jnp.asarray(images[:count] / 16, jnp.float32), jnp.asarray(labels[:count])


def parameters(seed):
    """Two arrays: each one more makes every program here slower to compile."""
    rng = np.random.default_rng(seed)
    return {
        name: {
            "kernel": jnp.asarray(
                rng.normal(0, inputs**-0.5, (inputs, outputs)), jnp.float32
            )
        }
        for name, inputs, outputs in (("layer0", 64, 32), ("layer1", 32, 10))
    }


def loss(params, images, labels):
    first, second = (params[name]["kernel"] for name in ("layer0", "layer1"))
    scores = jax.nn.relu(images @ first) @ second
    return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()


def moved(params, direction):
    """A step of plain descent at a rate of 0.01."""
    return jax.tree.map(lambda w, x: w - 0.01 * x, params, direction)


def gradients(tx, optimizer, steps, *, batch=20, seed=0):
    """Trains with L2-SP towards random, that is harmful, parameters.

    Returns the trees ``g``, ``r``, ``d`` and ``u`` of every step, stacked along the
    first axis: ``d`` is what ``tx``, which takes pairs, makes of both gradients, and
    moves the parameters; ``u`` is what ``optimizer`` makes of ``g`` alone.
    """
    images, labels = digits()
    anchor = parameters(seed + 1)
    params = parameters(seed)
    order = np.random.default_rng(seed).integers(0, len(labels), (steps, batch))

    def step(carry, rows):
        params, state, other = carry
        g = jax.grad(loss)(params, images[rows], labels[rows])
        r = jax.tree.map(jnp.subtract, params, anchor)
        d, state = tx.update(g, state, params, regularizer_grads=r)
        u, other = optimizer.update(g, other, params)
        return (moved(params, d), state, other), (g, r, d, u)

    start = params, tx.init(params), optimizer.init(params)
    return jax.lax.scan(step, start, jnp.asarray(order))[1]
