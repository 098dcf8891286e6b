"""Trees compared array by array, and stacked. Tolerances stand where they are used."""

import jax
import numpy as np


def close(actual, expected, rtol, atol):
    """The same structure, and the same numbers but for rounding."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol, atol), actual, expected
    )


def equal(actual, expected):
    """Structure, types, and numbers bit for bit, NaN included."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for x, y in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
        assert jax.typeof(x) == jax.typeof(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def stack(*trees):
    """Along a new first axis. With NumPy, in which there is nothing to compile."""
    return jax.tree.map(lambda *x: np.stack(x), *trees)


def at(tree, k):
    """What ``stack`` had at ``k``."""
    return jax.tree.map(lambda x: x[k], tree)
