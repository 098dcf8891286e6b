"""The steady rule written out in NumPy, as a reference for any trainer.

Parameters and gradients are single vectors here, and a layer is the positions of its
numbers in them.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

RATE = 0.01
RATIO = 0.3
DECAY = 0.99


def norm(v):
    return np.sqrt(v @ v)


def scaled(v):
    """``v`` with a root mean square of 1."""
    return v / norm(v) * np.sqrt(v.size) if v.any() else v


class Adam:
    def __init__(self, b1=0.9, b2=0.999):
        self.b1, self.b2 = b1, b2
        self.m = self.v = self.t = 0

    def __call__(self, g):
        self.t += 1
        self.m = self.b1 * self.m + (1 - self.b1) * g
        self.v = self.b2 * self.v + (1 - self.b2) * g**2
        v = self.v / (1 - self.b2**self.t)
        return self.m / (1 - self.b1**self.t) / (np.sqrt(v) + 1e-8)


class Steady:
    """The direction of each step, for a vector of parameters that starts at ``w``."""

    def __init__(self, w, layers, decayed, *, weight, b2=0.999, new=()):
        self.start, self.layers, self.decayed = w, layers, decayed
        self.weight, self.new = weight, list(new)
        self.adam, self.average = Adam(b2=b2), None  # of the updates before

    def __call__(self, w, g, *penalties):
        u = self.adam(g)
        direction = u.copy()
        moved = w - self.start
        moved[self.new] = 0
        r = self.weight * sum(map(scaled, (moved, self.decayed * w, *penalties)))
        if self.average is None:  # in the first step
            self.average = np.zeros_like(g)
        else:
            for layer in self.layers:
                direction[layer] = turned(u[layer], r[layer], self.average[layer])
        self.average = DECAY * self.average + (1 - DECAY) * u
        return direction


def turned(u, r, m):
    """``u``, turned by what of ``r`` does not oppose ``m``, capped at ``RATIO``."""
    length = norm(u)
    r = shortened(r, length)
    rest = shortened(r - min(0, m @ r) / (m @ m) * m, RATIO * length)
    return shortened(u + rest, length)


def shortened(v, longest):
    return v * min(1, longest / norm(v)) if v.any() else v


def layers_of(params, name=lambda path: path[:-1], stacked=lambda path: False):
    """The positions of each layer, by its name.

    Args:
      params: a pytree of arrays.
      name: makes of an array's path the name of its layer.
      stacked: whether each slice along the first axis is a layer.
    """
    found, end = {}, 0
    for path, x in jax.tree.leaves_with_path(params):
        positions = np.arange(end, end + x.size).reshape(x.shape)
        slices = enumerate(positions) if stacked(path) else [(None, positions)]
        for i, part in slices:
            found.setdefault((name(path), i), []).extend(part.ravel())
        end += x.size
    return {key: np.array(part) for key, part in found.items()}


def decayed_of(params, decays=lambda path, x: x.ndim > 1):
    """Whether weight decay acts on each number, by the array that it is in."""
    arrays = jax.tree.leaves_with_path(params)
    return np.concatenate([np.full(x.size, decays(path, x)) for path, x in arrays])


def train(
    start, grads, *, weight, layers=None, decayed=None, rates=(RATE,) * 5, **options
):
    """The parameters after one step per rate.

    Args:
      start: a pytree of parameters, and a plain one: nested dicts or lists of arrays.
      grads: a function of parameters and the number of the step. It returns the
        gradient of the loss, or a tuple, with those of penalties after it.
      weight: of the regularizer; 0 leaves Adam alone.
      layers: lists of positions, by default those of ``layers_of``.
      decayed: a boolean for each number, by default those of ``decayed_of``.
      rates: the learning rate of each step.
      **options: of ``Steady``.
    """
    w, unravel = ravel_pytree(start)
    w, dtype = np.asarray(w, np.float64), w.dtype
    layers = list(layers_of(start).values()) if layers is None else layers
    decayed = decayed_of(start) if decayed is None else decayed
    direction = Steady(w, layers, decayed, weight=weight, **options)
    for t, rate in enumerate(rates):
        trees = grads(unravel(jnp.asarray(w, dtype)), t)
        trees = trees if isinstance(trees, tuple) else (trees,)
        vectors = (np.asarray(ravel_pytree(tree)[0], np.float64) for tree in trees)
        w = w - rate * direction(w, *vectors)
    return w


def check(actual, start, grads, **options):
    """The trainer's parameters are those of the rule, and not those of Adam alone."""
    before, actual = (np.asarray(ravel_pytree(x)[0]) for x in (start, actual))
    expected, plain = (
        train(start, grads, weight=weight, **options) for weight in (1, 0)
    )
    moved = norm(expected - before)
    assert norm(plain - expected) > 0.1 * moved
    assert norm(actual - expected) < 1e-4 * moved
