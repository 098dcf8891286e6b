"""What a run trains, how it is split into pieces, and the order of its images."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from experiments import networks
from experiments.data import Dataset
from experiments.methods import Method
from experiments.recipe import Recipe, batch_order

# A run is validated and saved after every chunk. It has this many chunks, or fewer if
# that does not divide its steps.
CHUNKS = 10
# Maximum size in bytes of the images of a piece. A chunk of large images has several.
PIECE_BYTES = 2**28
# Folded into a seed's key, so that the order of the images does not depend on the crop.
CROP = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """What is trained: ``S`` networks, one per seed. It fully determines the result.

    Attributes:
      spec: the networks' spec.
      method: how the regularizer, if any, is combined with the empirical gradient.
      recipe: steps, batch size, learning rate, optimizer.
      weight: λ.
      params: initial parameters; every array has a leading axis of ``S``.
      dataset: the images that ``train`` and ``validation`` index, as the network takes
        them: uint8 images, or activations of a frozen part.
      train: int32 ``[S, n]``, each seed's training images.
      keys: ``[S]`` random keys for the order of the images and their crops.
      channel_weights: ``[S, channels]`` for each feature map for DELTA, else ``None``.
      validation: int32 ``[S, v]``, the images used for early stopping; ``None`` to
        train to the end.
    """

    spec: networks.Spec
    method: Method
    recipe: Recipe
    weight: float
    params: networks.Params
    dataset: Dataset
    train: np.ndarray
    keys: jax.Array
    channel_weights: dict[str, jax.Array] | None = None
    validation: np.ndarray | None = None

    @property
    def chunk(self) -> int:
        """The number of steps between validations and checkpoints."""
        steps = self.recipe.steps
        return steps // max(n for n in range(1, CHUNKS + 1) if steps % n == 0)

    @property
    def piece(self) -> int:
        """The number of steps run on the devices at once: a chunk, or a part of one."""
        image = math.prod(self.dataset.images.shape[1:]) * self.dataset.images.itemsize
        batch = image * self.recipe.batch_size * len(self.train)
        fitting = max(1, PIECE_BYTES // batch)
        return max(
            n for n in range(1, self.chunk + 1) if self.chunk % n == 0 and n <= fitting
        )


def draw(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the batch of each seed and step, and the data of its random key."""
    rows = jax.vmap(functools.partial(batch_order, recipe=job.recipe))(
        job.keys, jnp.asarray(job.train)
    )
    crops = jax.vmap(jax.random.fold_in, in_axes=(0, None))(job.keys, CROP)
    keys = jax.vmap(lambda key: jax.random.split(key, job.recipe.steps))(crops)
    return np.asarray(rows), np.asarray(jax.random.key_data(keys))
