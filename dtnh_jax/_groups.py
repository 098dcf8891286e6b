"""Granularity: which arrays are judged and projected together."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr

from dtnh_jax import _checks

Labels = Any
Granularity = str | Labels | Callable[[Any], Labels]

KNOWN = ("global", "layer", "leaf")


class Groups(NamedTuple):
    """A division of a tree's leaves. Static: it is known when the tree is traced.

    Attributes:
      names: one name a group, in the order in which the tree first shows them.
      of_leaf: for each leaf, in flattening order, the index of its group.
    """

    names: tuple[str, ...]
    of_leaf: tuple[int, ...]


def check(granularity: Granularity) -> None:
    """Raises where ``granularity`` is a name that is not known, or no tree at all."""
    if isinstance(granularity, str):
        _checks.one_of("granularity", granularity, KNOWN)
    elif granularity is None or (
        not callable(granularity) and jax.tree_util.all_leaves([granularity])
    ):
        raise TypeError(
            '`granularity` must be "global", "layer", "leaf", a pytree of labels or a '
            f"function from parameters to labels, got {granularity!r}"
        )


def divide(tree: Any, granularity: Granularity) -> Groups:
    """Divides the leaves of ``tree``, as ``granularity`` says."""
    check(granularity)
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
    if isinstance(granularity, str):
        if granularity == "global":
            return Groups(("global",), (0,) * len(paths))
        arrays = [_checks.without_box(path) for path in paths]
        drop = 1 if granularity == "layer" else 0
        keys: list[Any] = [path[: len(path) - drop] for path in arrays]
        return _number(keys, _path_names)
    labels = granularity(tree) if callable(granularity) else granularity
    try:
        return _number(jax.tree.leaves(jax.tree.broadcast(labels, tree)), _label_names)
    except ValueError as error:
        raise ValueError(
            "the labels of `granularity` do not fit the gradients; they must be a tree "
            f"of the same structure, or a prefix of it: {error}"
        ) from error


def encode(names: Sequence[str]) -> jax.Array:
    """Names as UTF-8 padded with zeros, uint8 ``[K, length]``, to lie in a state."""
    encoded = [np.frombuffer(name.encode(), np.uint8) for name in names]
    table = np.zeros((len(names), max(map(len, encoded), default=0)), np.uint8)
    for row, name in zip(table, encoded, strict=True):
        row[: len(name)] = name
    return jnp.asarray(table)


def _number(keys: list[Any], names: Callable[[list[Any]], list[str]]) -> Groups:
    """Numbers the keys in order of first appearance."""
    index = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return Groups(tuple(names(list(index))), tuple(index[key] for key in keys))


def _label_names(labels: list[Any]) -> list[str]:
    return [str(label) for label in labels]


def _path_names(paths: list[_checks.Path]) -> list[str]:
    names = [keystr(path, simple=True, separator="/") or "(root)" for path in paths]
    # A key that itself holds "/" could make two paths read the same.
    return names if len(set(names)) == len(names) else [keystr(path) for path in paths]
