"""A pytree as a flat dict of named arrays: what files hold, whatever the containers."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def flatten(tree: Any) -> dict[str, Any]:
    """The leaves by path, ``{"params.conv1.bias": array, ...}``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in leaves
    }


def unflatten(like: Any, leaves: Mapping[str, Any]) -> Any:
    """The tree with the structure of ``like`` whose ``flatten`` is ``leaves``.

    Of NumPy arrays where ``like`` has them.

    Raises:
      KeyError: if there is no leaf of that name.
    """

    def one(name: str, old: Any) -> Any:
        return np.asarray(leaves[name]) if isinstance(old, np.ndarray) else leaves[name]

    found = [one(name, old) for name, old in flatten(like).items()]
    return jax.tree.unflatten(jax.tree.structure(like), found)
