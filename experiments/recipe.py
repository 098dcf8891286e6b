"""How to train, independent of the method."""

import dataclasses
import math
from typing import Any

import jax
import optax

from experiments.errors import InputError, unknown

# The optimizers without their learning rate, which is applied after them.
OPTIMIZERS = {
    "sgd": lambda: optax.trace(decay=0.9),  # momentum
    "adam": optax.scale_by_adam,
    "adamw": lambda: optax.chain(
        optax.scale_by_adam(), optax.add_decayed_weights(1e-2)
    ),
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train. Hashable, so that it can be a static argument of a jit.

    Attributes:
      steps: number of updates.
      batch_size: images per update and seed.
      learning_rate: initial learning rate.
      optimizer: a key of ``OPTIMIZERS``.
      falls_at: share of the steps after which the learning rate drops to a tenth; 1 for
        never.
      crop: side in pixels of a random crop of each training image, randomly mirrored;
        other images are cropped to their center. ``None`` for whole images.
    """

    steps: int = 200
    batch_size: int = 10
    learning_rate: float = 0.01
    optimizer: str = "sgd"
    falls_at: float = 1.0
    crop: int | None = None

    def __post_init__(self):
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("steps", "batch_size", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(
                    f"{name} must be positive and finite, got {getattr(self, name)}"
                )
        if not 0 < self.falls_at <= 1:
            raise InputError(f"falls_at must be in 0..1, got {self.falls_at}")

    def direction(self) -> optax.GradientTransformation:
        """The optimizer without its learning rate."""
        return OPTIMIZERS[self.optimizer]()

    def schedule(self, learning_rate: jax.Array) -> Any:
        """The learning rate, or a schedule of it if it drops."""
        if self.falls_at == 1:
            return learning_rate
        falls: Any = self.falls_at * self.steps
        rate: Any = learning_rate
        return optax.piecewise_constant_schedule(rate, {falls: 0.1})


def batch_order(key: jax.Array, members: jax.Array, recipe: Recipe) -> jax.Array:
    """Draws one seed's batches. Every epoch shuffles the images again.

    Args:
      key: random key for the order.
      members: int32 ``[n]``, indices of the training images.
      recipe: has the number of steps and the batch size.

    Returns:
      int32 ``[steps, batch_size]`` indices. An epoch leaves out the images that do not
      fill its last batch.
    """
    per_epoch = members.shape[0] // recipe.batch_size
    if per_epoch == 0:
        raise InputError(
            f"a batch of {recipe.batch_size} images is larger than the "
            f"{members.shape[0]} training images"
        )
    keys = jax.random.split(key, -(-recipe.steps // per_epoch))
    epochs = jax.vmap(jax.random.permutation, in_axes=(0, None))(keys, members)
    whole = epochs[:, : per_epoch * recipe.batch_size]
    return whole.reshape(-1, recipe.batch_size)[: recipe.steps]
