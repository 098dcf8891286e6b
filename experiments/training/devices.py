"""How the state and the batches are sharded over devices and processes.

There is one mesh axis, "data", over all devices of all processes. Batches are sharded
along it. With the layout ``"data"``, every device has the whole state. With ``"fsdp"``
(fully sharded data parallelism), each array of the state is sharded too, and XLA
gathers the arrays of a layer when it needs them.
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

# Smaller arrays are replicated, because gathering costs a message at any size.
SPLIT_FROM = 1024

T = TypeVar("T")
# The number of processes, and the index of this one.
NUMBERS = "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


def join() -> None:
    """Joins the other processes of a run. Must be called before any other use of JAX.

    JAX detects Slurm, Open MPI, Kubernetes and TPUs. Elsewhere, or to override that,
    set ``JAX_COORDINATOR_ADDRESS`` (host and port of the first process),
    ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID``.

    Raises:
      InputError: if JAX detects nothing and these are not set.
    """
    try:  # JAX itself reads only JAX_COORDINATOR_ADDRESS
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
    """Calls ``make`` in the first process, then in the others, which find its cache."""
    if jax.process_index() > 0:
        multihost_utils.sync_global_devices("made")
        return make()
    made = make()
    multihost_utils.sync_global_devices("made")
    return made


class Layout(NamedTuple):
    """How arrays are sharded. Hashable, so that it can be a static argument of a jit.

    Attributes:
      mesh: all devices, along the axis "data".
      state: how the training state is sharded; batches always are.
    """

    mesh: Mesh
    state: Literal["data", "fsdp"] = "data"

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of an array that is whole on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def divided(self, tree: Any) -> Any:
        """Constrains the sharding of the state, inside a jit.

        The first axis, of seeds, is never sharded.
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
                f"devices; pass a batch size that is a multiple of {self.mesh.size}"
            )

    def batches(self, shape: tuple[int, ...], read: Callable[[Any], Any]) -> jax.Array:
        """An array ``[seeds, steps, batch, ...]``, sharded along the batch.

        ``read`` returns the part at an index, so a process reads only its own shards.
        """
        spec = PartitionSpec(None, None, "data")
        return jax.make_array_from_callback(shape, NamedSharding(self.mesh, spec), read)

    def whole(self, tree: Any) -> Any:
        """Replicates NumPy arrays, which are the same in every process."""

        def one(x: Any) -> jax.Array:
            x = np.asarray(x)
            return jax.make_array_from_callback(
                x.shape, self.replicated, lambda at: x[at]
            )

        return jax.tree.map(one, tree)


def layout(
    state: Literal["data", "fsdp"] = "data", devices: int | None = None
) -> Layout:
    """A layout over all devices, or over the first ``devices`` of them."""
    chosen = jax.devices()[:devices]
    mesh = jax.make_mesh((len(chosen),), ("data",), (AxisType.Auto,), devices=chosen)
    return Layout(mesh, state)
