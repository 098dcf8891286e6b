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
    rng = np.random.default_rng(seed)
    sizes = ((64, 32), (32, 10))
    return {
        f"layer{i}": {
            "kernel": jnp.asarray(rng.normal(0, a**-0.5, (a, b)), jnp.float32),
            "bias": jnp.zeros(b, jnp.float32),
        }
        for i, (a, b) in enumerate(sizes)
    }


def logits(params, images):
    return _dense(params["layer1"], jax.nn.relu(_dense(params["layer0"], images)))


def loss(params, images, labels):
    scores = logits(params, images)
    return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()


def _dense(layer, x):
    return x @ layer["kernel"] + layer["bias"][None]


def moved(params, direction):
    """A step of plain descent at a rate of 0.01."""
    return jax.tree.map(lambda w, x: w - 0.01 * x, params, direction)


def gradients(tx, steps, *, weight=1.0, batch=20, seed=0):
    """Trains with L2-SP towards random, that is harmful, parameters.

    Returns the trees ``g``, ``r`` and ``d`` (what ``tx``, which takes pairs, makes of
    them) of every step, stacked along the first axis.
    """
    images, labels = digits()
    anchor = parameters(seed + 1)
    params = parameters(seed)
    order = np.random.default_rng(seed).integers(0, len(labels), (steps, batch))

    def step(carry, rows):
        params, state = carry
        g = jax.grad(loss)(params, images[rows], labels[rows])
        r = jax.tree.map(lambda w, w0: weight * (w - w0), params, anchor)
        d, state = tx.update(g, state, params, regularizer_grads=r)
        return (moved(params, d), state), (g, r, d)

    (_, _), trees = jax.lax.scan(step, (params, tx.init(params)), jnp.asarray(order))
    return trees
