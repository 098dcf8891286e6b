"""What is split, and along which dimension."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from experiments.trainer import layout

MESH = AbstractMesh((4,), ("data",))


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((3, 3, 16, 32), PartitionSpec(None, None, None, "data")),
        ((128, 64), PartitionSpec("data")),
        ((1022, 6, 12), PartitionSpec(None, None, "data")),
        ((16, 32), PartitionSpec()),  # too small
        ((33, 35), PartitionSpec()),  # nothing fits
        ((), PartitionSpec()),
    ],
)
def test_fsdp_splits_the_longest_dimension_that_fits(shape, spec):
    leaf = jax.ShapeDtypeStruct(shape, jnp.float32)
    assert layout.shardings(MESH, "fsdp", leaf).spec == spec
    assert layout.shardings(MESH, "data", leaf).spec == PartitionSpec()


def test_batches_are_split_along_the_first_dimension():
    assert layout.batches(MESH).spec == PartitionSpec("data")
