"""Numbers of groups, taken out of a vector of all."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from dtnh_jax import _groups, _sums


@pytest.mark.parametrize("count", [1, 32, 33, 70])
@pytest.mark.parametrize("bad", [0.0, np.inf, np.nan])
def test_each_group_gets_its_own_numbers(count, bad):
    """Which a CPU takes from a vector by masks: they must not spread a NaN."""
    tree = {f"w{k:02}": np.zeros(2) for k in range(count)} | {"x": np.zeros((4, 2))}
    groups = _groups.divide(tree, "leaf", {"x": 0})
    vectors = np.random.default_rng(0).standard_normal((2, count + 4))
    vectors[:, count // 2] += bad
    taken = _sums.scalars(jnp.asarray(vectors, np.float32), groups)
    expected = [*vectors[:, :count].T, vectors[:, count:]]
    chex.assert_trees_all_equal(taken, [np.float32(x) for x in expected])
