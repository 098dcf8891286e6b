"""A pytree as a flat dict of named arrays: what checkpoints and files hold."""

from collections.abc import Mapping
from typing import Any

import jax


def flatten(tree: Any) -> dict[str, Any]:
    """The leaves by path, ``{"params.conv1.bias": array, ...}``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in leaves
    }


def unflatten(like: Any, leaves: Mapping[str, Any]) -> Any:
    """The tree with the structure of ``like`` whose ``flatten`` is ``leaves``.

    Raises:
      KeyError: if there is no leaf of that name.
    """
    return jax.tree.unflatten(
        jax.tree.structure(like), [leaves[name] for name in flatten(like)]
    )


def kinds(tree: Any) -> dict[str, str]:
    """What each leaf is: ``{"params.conv1.bias": "float32[16]", ...}``."""
    return {
        name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in flatten(tree).items()
    }
