"""Which part of the state and of a batch lies on which device.

There is one axis, "data", over all devices of all processes. Batches are split along
it. With the layout "data" every device has the whole state; with "fsdp" (fully sharded
data parallelism) each array of the state is split along it too, and XLA gathers what a
layer needs when it needs it.
"""

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

# Gathering an array costs a message, however small it is: below this it stays whole.
SPLIT_FROM = 1024


def mesh() -> Mesh:
    """All devices in one row."""
    return jax.make_mesh((jax.device_count(),), ("data",), (AxisType.Auto,))


def batches(mesh: Mesh) -> NamedSharding:
    """Split along the first dimension."""
    return NamedSharding(mesh, PartitionSpec("data"))


def whole(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def shardings(mesh: Mesh, layout: str, tree: Any) -> Any:
    """A sharding for each array, or ``ShapeDtypeStruct``, of parameters or state."""

    def sharding(leaf: Any) -> NamedSharding:
        fitting = [length for length in leaf.shape if length % mesh.size == 0]
        if layout == "data" or math.prod(leaf.shape) < SPLIT_FROM or not fitting:
            return whole(mesh)
        axis = leaf.shape.index(max(fitting))
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))

    return jax.tree.map(sharding, tree)


def place(tree: Any, shardings: Any) -> Any:
    """NumPy arrays, the same in every process, as arrays over all devices.

    Each process copies only what lies on its own devices.
    """

    def one(leaf: np.ndarray, sharding: NamedSharding) -> jax.Array:
        return jax.make_array_from_callback(
            leaf.shape, sharding, lambda index: leaf[index]
        )

    return jax.tree.map(one, tree, shardings)
