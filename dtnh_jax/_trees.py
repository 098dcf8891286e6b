"""Trees matched by key path, whatever their containers."""

from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import GetAttrKey, keystr, tree_flatten_with_path

Path = tuple[Any, ...]  # of jax.tree_util keys
Key = tuple[str, ...]  # a path as plain strings, the same for every container type

REQUIRED = object()  # the default of `match`: every array needs an entry


class Layout:
    """The ``paths`` and ``keys`` of a tree's arrays, in flattening order.

    Other positions hold ``None``, another subtree without arrays (``optax.MaskedNode``,
    say), or a leaf without a gradient, such as a function or an integer. Keys omit the
    ``.value`` of a box around a single array, such as a Flax Variable.
    """

    def __init__(self, tree: Any):
        flat, self._treedef = tree_flatten_with_path(tree, is_leaf=_is_empty)
        self._found = [leaf for _, leaf in flat]
        self._live = [i for i, x in enumerate(self._found) if is_inexact(x)]
        self._paths = [path for path, _ in flat]
        self._keys = _keys(self._paths)
        self.paths = self._pick(self._paths)
        self.keys = self._pick(self._keys)

    def __len__(self) -> int:
        return len(self._live)

    def leaves(self, tree: Any) -> list[Any]:
        """The entries of ``tree``, of the same structure, at the arrays' positions."""
        return self._pick(self._flatten(tree))

    def arrays(self, tree: Any) -> list[jax.Array]:
        """The arrays of ``tree``, which must have one wherever this tree has one."""
        return [jnp.asarray(x) for x in self.leaves(tree)]

    def build(self, leaves: Any, tree: Any = None) -> Any:
        """Puts ``leaves`` in place of the arrays; other leaves come from ``tree``."""
        whole = [leaf if _is_empty(leaf) else None for leaf in self._found]
        if tree is not None:
            whole = self._flatten(tree)
        for i, leaf in zip(self._live, leaves, strict=True):
            whole[i] = leaf
        return self._treedef.unflatten(whole)

    def match(self, entries: Any, name: str, default: Any = REQUIRED) -> list[Any]:
        """For each array, finds the entry of a tree or prefix at or above its path.

        ``None`` is an entry. Raises an error with ``name`` if an entry matches nothing,
        or if an array has no entry and there is no ``default``.
        """
        flat, _ = tree_flatten_with_path(plain(entries), is_leaf=lambda x: x is None)
        paths = [path for path, _ in flat]
        keys = _keys(paths)
        known = dict(zip(keys, (entry for _, entry in flat), strict=True))
        starts = [_start(known, key) for key in self._keys]
        matched = set(starts)
        without_arrays = set(self._keys) - set(self.keys)
        for path, key in zip(paths, keys, strict=True):
            # An entry below a position without arrays is ignored.
            if key not in matched and _start(without_arrays, key) is None:
                raise ValueError(
                    f"`{name}` has an entry {at(path)} that matches nothing; there are "
                    f"{_some(self._paths)}"
                )
        found = self._pick(starts)
        if default is REQUIRED and None in found:
            where = at(self.paths[found.index(None)])
            raise ValueError(
                f"`{name}` has no entry for the array {where}; it has entries for "
                f"{_some(paths)}"
            )
        return [default if start is None else known[start] for start in found]

    def _flatten(self, tree: Any) -> list[Any]:
        try:
            return self._treedef.flatten_up_to(tree)
        except ValueError as error:
            raise ValueError(
                "parameters, gradients and state must have the same structure as the "
                f"parameters given to `init`: {error}"
            ) from error

    def _pick(self, items: list[Any]) -> list[Any]:
        return [items[i] for i in self._live]


def is_inexact(leaf: Any) -> bool:
    """Whether ``leaf`` is a floating-point or complex array or number."""
    if leaf is None or isinstance(leaf, str | type | np.dtype):
        return False  # JAX would take these for dtypes, None for the default
    try:
        return jnp.issubdtype(jax.dtypes.result_type(leaf), jnp.inexact)
    except (TypeError, ValueError):
        return False


def plain(tree: Any) -> Any:
    """``tree``, with mappings that are not pytrees converted to dicts.

    An example is ``ml_collections.ConfigDict``, which is not a
    ``collections.abc.Mapping`` either. Like ``dict`` itself, this takes anything with
    ``keys`` for a mapping.
    """

    def unwrapped(x: Any) -> Any:
        return {k: plain(x[k]) for k in x} if hasattr(x, "keys") else x

    return jax.tree.map(unwrapped, tree)


def is_tree(x: Any) -> bool:
    """Whether ``x`` is a non-empty container, not a leaf."""
    x = plain(x)
    return not jax.tree_util.all_leaves([x]) and bool(jax.tree.leaves(x))


def resolve(entries: Any, tree: Any) -> Any:
    """``entries``, or ``entries(tree)`` if they are a function and not a module."""
    return entries(tree) if callable(entries) and not is_tree(entries) else entries


def at(path: Path) -> str:
    """The path of a leaf, in words."""
    return f"at {keystr(path)}" if path else "at the root"


def _is_empty(x: Any) -> bool:
    return not jax.tree.leaves(x)


def _start(known: Any, key: Key) -> Key | None:
    """The longest prefix of ``key`` that is known, or None."""
    starts = (key[:n] for n in range(len(key), -1, -1))
    return next((start for start in starts if start in known), None)


def _keys(paths: list[Path]) -> list[Key]:
    below = Counter(path[:n] for path in paths for n in range(len(path)))
    keys = []
    for path in paths:
        if path[-1:] == (GetAttrKey("value"),) and below[path[:-1]] == 1:
            path = path[:-1]
        keys.append(tuple(keystr((part,), simple=True) for part in path))
    return keys


def _some(paths: list[Path]) -> str:
    names = [keystr(path) or "the root" for path in paths]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") or "nothing"
