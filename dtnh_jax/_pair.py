"""The pair of gradients that DTNH works on."""

from typing import Any, NamedTuple


class GradientPair(NamedTuple):
    """The two gradients of one step, each a pytree shaped like the parameters.

    It is a NamedTuple, so it passes through ``jax.jit``, ``optax.chain`` and Flax's
    ``TrainState.apply_gradients`` like any pytree of gradients.

    Attributes:
      empirical: gradient of the empirical loss on the target task.
      regularizer: gradient of the penalty, before it is multiplied by the weight.

    Examples:
      >>> import jax.numpy as jnp
      >>> from dtnh_jax import GradientPair
      >>> g, r = {"w": jnp.ones(2)}, {"w": jnp.array([-1.0, 0.0])}
      >>> GradientPair(empirical=g, regularizer=r).regularizer["w"]
      Array([-1.,  0.], dtype=float32)
    """

    empirical: Any
    regularizer: Any


class MixedPair(GradientPair):
    """A pair whose regularizer half already contains ``regularizer_grads``."""
