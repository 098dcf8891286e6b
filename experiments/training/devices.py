"""Which part of the state and of a batch is on which device, of which process.

There is one mesh axis, "data", over all devices of all processes. Batches are divided
along it. With the layout ``"data"`` every device has the whole state; with ``"fsdp"``
(fully sharded data parallelism) each array of the state is divided too, and XLA gathers
what a layer needs when it needs it.
"""

import math
import os
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from experiments.errors import InputError

# Gathering an array costs a message, however small it is: below this it stays whole.
SPLIT_FROM = 1024

T = TypeVar("T")
# How many processes there are, and which of them this one is.
NUMBERS = "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


def join() -> None:
    """Joins this process with the others of a run, before JAX is used otherwise.

    JAX detects Slurm, Open MPI, Kubernetes and TPUs. Elsewhere, and where that is not
    what is meant, ``JAX_COORDINATOR_ADDRESS`` (host and port of the first process),
    ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID`` say which processes there are.

    Raises:
      InputError: if neither does.
    """
    try:  # JAX itself reads the first of them alone
        count, index = (
            int(os.environ[x]) if x in os.environ else None for x in NUMBERS
        )
        jax.distributed.initialize(num_processes=count, process_id=index)
    except ValueError as error:
        raise InputError(
            f"cannot join the other processes: {error} Where JAX detects no cluster, "
            f"JAX_COORDINATOR_ADDRESS, {' and '.join(NUMBERS)} must be set"
        ) from error


def in_turn(make: Callable[[], T]) -> T:
    """What ``make`` gives: in the first process, then in the others, from its cache."""
    if jax.process_index() > 0:
        multihost_utils.sync_global_devices("made")
        return make()
    made = make()
    multihost_utils.sync_global_devices("made")
    return made


class Layout(NamedTuple):
    """How arrays are divided; hashable, so that it can be a static argument of a jit.

    Attributes:
      mesh: of all devices, with the axis "data".
      state: how the training state is divided; batches always are.
    """

    mesh: Mesh
    state: Literal["data", "fsdp"] = "data"

    @property
    def replicated(self) -> NamedSharding:
        """Whole on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def divided(self, tree: Any) -> Any:
        """The state, inside a jit, on the devices where it belongs.

        The first axis, of seeds, is never divided.
        """
        if self.mesh.size == 1:
            return tree

        def one(x: jax.Array) -> jax.Array:
            axes: list[str | None] = [None] * x.ndim
            fits = [i for i in range(1, x.ndim) if x.shape[i] % self.mesh.size == 0]
            if self.state == "fsdp" and math.prod(x.shape[1:]) >= SPLIT_FROM and fits:
                axes[max(fits, key=lambda i: x.shape[i])] = "data"
            sharding = NamedSharding(self.mesh, PartitionSpec(*axes))
            return jax.lax.with_sharding_constraint(x, sharding)

        return jax.tree.map(one, tree)

    def check_batch(self, size: int) -> None:
        if size % self.mesh.size:
            raise InputError(
                f"a batch of {size} images cannot be divided among {self.mesh.size} "
                f"devices; give a batch size that {self.mesh.size} divides"
            )

    def batches(self, shape: tuple[int, ...], read: Callable[[Any], Any]) -> jax.Array:
        """An array ``[seeds, steps, batch, ...]``, divided along the batch.

        ``read`` gives the part at an index: a process reads what its devices get.
        """
        spec = PartitionSpec(None, None, "data")
        return jax.make_array_from_callback(shape, NamedSharding(self.mesh, spec), read)

    def whole(self, tree: Any) -> Any:
        """NumPy arrays, the same in every process, whole on every device."""

        def one(x: Any) -> jax.Array:
            x = np.asarray(x)
            return jax.make_array_from_callback(
                x.shape, self.replicated, lambda at: x[at]
            )

        return jax.tree.map(one, tree)


def layout(
    state: Literal["data", "fsdp"] = "data", devices: int | None = None
) -> Layout:
    """Over all devices there are, or the first so many."""
    chosen = jax.devices()[:devices]
    mesh = jax.make_mesh((len(chosen),), ("data",), (AxisType.Auto,), devices=chosen)
    return Layout(mesh, state)
