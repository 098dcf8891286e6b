"""The rule of Bloop, a baseline for DTNH."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dtnh_jax import GradientPair


def bloop(
    weight: float | jax.Array = 1.0, decay: float = 0.9, eps: float = 1e-7
) -> optax.GradientTransformation:
    """Adds the regularizer gradient, made orthogonal to the average empirical gradient.

    Args:
      weight: regularizer weight λ.
      decay: decay of the moving average, which includes this step's gradient.
      eps: added to the squared norm of the average.

    Returns:
      A transformation that takes a ``GradientPair``. The optimizer comes after it.

    References:
      Hsieh et al., `Careful with that Scalpel <https://arxiv.org/abs/2402.02998>`_,
      2024.
    """

    def init(params: optax.Params) -> Any:
        return optax.tree.zeros_like(params)

    def update(updates, state, params=None):
        assert isinstance(updates, GradientPair)
        g, r = updates
        average = jax.tree.map(lambda m, x: decay * m + (1 - decay) * x, state, g)
        along = optax.tree.vdot(average, r) / (optax.tree.vdot(average, average) + eps)
        combined = jax.tree.map(
            lambda x, y, m: (x + weight * (y - along * m)).astype(jnp.asarray(x).dtype),
            g, r, average,
        )  # fmt: skip
        return combined, average

    return optax.GradientTransformation(init, update)
