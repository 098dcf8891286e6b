"""Trees, stacked."""

import jax
import numpy as np


def stack(*trees):
    """Along a new first axis. With NumPy, in which there is nothing to compile."""
    return jax.tree.map(lambda *x: np.stack(x), *trees)


def at(tree, k):
    """What ``stack`` had at ``k``."""
    return jax.tree.map(lambda x: x[k], tree)
