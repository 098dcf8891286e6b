"""Batches as a pure function of seed and step: the step is the loader's position."""

from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from experiments.errors import InputError
from experiments.finetune import ORDER
from experiments.trainer.task import Task


class Loader:
    """Gives every process its part of each batch.

    Every epoch goes through the training images in a new order; what does not fill an
    epoch's last batch is left out of that epoch.
    """

    def __init__(self, task: Task, sharding: NamedSharding):
        """``sharding`` says which process and device gets which images of a batch.

        Raises:
          InputError: if a batch cannot be divided evenly.
        """
        size, devices = task.recipe.batch_size, sharding.mesh.size
        if size % devices:
            raise InputError(
                f"a batch of {size} images cannot be divided among {devices} devices; "
                f"give a --batch-size that {devices} divides"
            )
        self._task, self._sharding = task, sharding
        self._epoch, self._order = -1, task.train

    def rows(self, step: int) -> np.ndarray:
        """Indices of the images of that step, int32 ``[batch_size]``."""
        size = self._task.recipe.batch_size
        epoch, batch = divmod(step, len(self._task.train) // size)
        if epoch != self._epoch:
            draws = np.random.default_rng([self._task.seed, ORDER, epoch])
            self._epoch, self._order = epoch, draws.permutation(self._task.train)
        return self._order[batch * size : (batch + 1) * size]

    def batch(self, step: int) -> tuple[jax.Array, jax.Array]:
        """Images ``[batch_size, ...]`` and labels ``[batch_size]``, over all devices.

        Only the images of this process's devices are read.
        """
        rows, dataset = self.rows(step), self._task.dataset

        def spread(values: np.ndarray) -> jax.Array:
            def part(index: Any) -> np.ndarray:
                return values[rows[index[0]]]

            shape = (len(rows), *values.shape[1:])
            return jax.make_array_from_callback(shape, self._sharding, part)

        return spread(dataset.images), spread(dataset.labels)
