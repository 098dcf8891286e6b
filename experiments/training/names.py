"""Converts pytrees to flat dicts of named arrays, as stored in files."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def flatten(tree: Any) -> dict[str, Any]:
    """The leaves by path: ``{"params.conv1.bias": array, ...}``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in leaves
    }


def unflatten(like: Any, leaves: Mapping[str, Any]) -> Any:
    """The inverse of ``flatten``, with the structure of ``like``.

    Leaves become NumPy arrays where those of ``like`` are.

    Raises:
      KeyError: if a leaf is missing.
    """

    def one(name: str, old: Any) -> Any:
        return np.asarray(leaves[name]) if isinstance(old, np.ndarray) else leaves[name]

    found = [one(name, old) for name, old in flatten(like).items()]
    return jax.tree.unflatten(jax.tree.structure(like), found)
