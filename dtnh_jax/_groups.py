"""Granularity: which arrays form a group, to be tested and projected together."""

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import DictKey, GetAttrKey, keystr

from dtnh_jax import _axes, _checks
from dtnh_jax._trees import Layout, Path, at, is_tree, resolve

Granularity = str | Any | Callable[[Any], Any]  # a name, labels, or tree -> labels
Stacked = Any

_KNOWN = ("global", "layer", "leaf")


class Slot(NamedTuple):
    """The groups of one array."""

    first: int  # index of its only or first group
    count: int | None = None  # groups, one per slice along `axis`; None if not stacked
    axis: int | None = None  # the stacked axis

    @property
    def last(self) -> int:
        """The index after its last group."""
        return self.first + (1 if self.count is None else self.count)


class Groups(NamedTuple):
    """A division of a tree's arrays into groups. Static: known at trace time."""

    names: tuple[str, ...]  # of the groups, in order of first appearance in the tree
    families: tuple[Slot, ...]  # the distinct slots without their axes, in this order
    slots: tuple[Slot, ...]  # one per array

    @property
    def axes(self) -> list[int | None]:
        """The stacked axis of each array; None for arrays without one."""
        return [slot.axis for slot in self.slots]


def check(granularity: Granularity, stacked: Stacked = None) -> None:
    """Raises unless ``granularity`` is a known name, a tree or a function."""
    if isinstance(granularity, str):
        _checks.one_of("granularity", granularity, _KNOWN)
        if granularity == "global" and stacked is not None:
            raise ValueError(
                "`stacked` splits layers, and there are none with "
                '`granularity="global"`: use "layer", "leaf" or labels'
            )
    elif not (is_tree(granularity) or callable(granularity)):
        raise TypeError(
            '`granularity` must be "global", "layer", "leaf", a pytree of labels or a '
            f"function from parameters to labels, got {granularity!r}"
        )


def divide(
    tree: Any, granularity: Granularity, stacked: Stacked = None, axis_name: Any = None
) -> Groups:
    """Divides the arrays of ``tree`` into groups.

    A sharded stack gets the groups of the whole stack on every device.
    """
    check(granularity, stacked)
    layout = Layout(tree)
    together, base = _together(layout, tree, granularity)
    axes = _stacked_axes(layout, tree, stacked)
    counts = _axes.whole_lengths(axis_name, layout, layout.leaves(tree), axes)
    families = list(dict.fromkeys(zip(together, counts, strict=True)))
    lengths = Counter(key for key, count in families if count is not None)
    names: list[str] = []
    family = {}
    for key, count in families:
        family[key, count] = Slot(len(names), count)
        if count is None:
            names.append(base[key])
        else:  # stacks of different lengths may share a label: add the length
            of = f" of {count}" if lengths[key] > 1 else ""
            names += [f"{base[key]}[{i}{of}]" for i in range(count)]
    slots = (
        family[key, count]._replace(axis=axis)
        for key, count, axis in zip(together, counts, axes, strict=True)
    )
    return Groups(tuple(names), tuple(family.values()), tuple(slots))


def of_update(divide_: Callable, gradient: Any, params: Any, at_init: int) -> Groups:
    """The groups of a gradient, which may lack some of the parameters' arrays.

    Raises unless there are ``at_init`` groups.
    """
    keys = Layout(gradient).keys
    of_params = keys if params is None else Layout(params).keys
    if set(keys) < set(of_params):
        groups = divide_(params)
        slots = dict(zip(of_params, groups.slots, strict=True))
        groups = groups._replace(slots=tuple(slots[key] for key in keys))
    else:
        groups = divide_(gradient)
    if len(groups.names) != at_init:
        raise ValueError(
            f"the gradients form {len(groups.names)} groups, but the parameters given "
            f"to `init` formed {at_init}: they must have the same structure; pass "
            "`params` to `update` if a gradient is None"
        )
    return groups


def warn_of_flat(tree: Any, granularity: Granularity, groups: Groups) -> None:
    """Warns if "layer" finds no layers, only several matrices in a flat container.

    A flat container is a list, or a dict at the root. Any other dict, and any module,
    has a name.
    """
    if not (isinstance(granularity, str) and granularity == "layer"):
        return
    layout = Layout(tree)
    arrays = zip(layout.paths, layout.leaves(tree), groups.axes, strict=True)
    matrices = Counter(
        path[:-1]
        for path, x, axis in arrays
        if jnp.ndim(x) - (axis is not None) > 1 and _is_nameless(path)
    )
    for parent, count in matrices.items():
        if count > 1:
            warnings.warn(
                f'granularity="layer": the {count} matrices {at(parent)} are '
                "taken for one layer, because their paths name no module. If they "
                "belong to several layers, pass labels, a tree of the same structure "
                "with the name of each array's layer, as `granularity`",
                stacklevel=3,
            )


def _is_nameless(path: Path) -> bool:
    """Whether an array may be a whole layer, judging by its path."""
    match path:
        case (DictKey(key=name),):
            return "bias" not in str(name)  # a bias of several heads has two axes
        case (*_, last):
            return not isinstance(last, DictKey | GetAttrKey)
    return False


def encode(names: Sequence[str]) -> jax.Array:
    """Encodes names for a state: UTF-8 padded with zeros, uint8 ``[K, length]``."""
    table = np.array([name.encode() for name in names], bytes)
    return jnp.asarray(table.view(np.uint8).reshape(len(names), table.itemsize))


def _together(layout: Layout, tree: Any, granularity: Any) -> tuple[list, dict]:
    """The key of each array's group, and the group names by key."""
    if isinstance(granularity, str):
        if granularity == "global":
            return [()] * len(layout), {(): "global"}
        end = -1 if granularity == "layer" else None
        keys = [key[:end] for key in layout.keys]
        return keys, _unique(keys, "/".join, lambda key: keystr((*map(DictKey, key),)))
    found = layout.match(resolve(granularity, tree), "granularity")
    must = "labels such as strings or integers"
    _checks.entries("granularity", layout, found, must, Hashable)
    return found, _unique(found, str, repr)


def _unique(keys: list[Any], short: Callable, whole: Callable) -> dict[Any, str]:
    """A short name for each key, or full names if two short ones coincide."""
    names = {key: short(key) or "(root)" for key in keys}
    if len(set(names.values())) < len(names):
        names = {key: whole(key) for key in names}
    return names


def _stacked_axes(layout: Layout, tree: Any, stacked: Stacked) -> list[int | None]:
    """The stacked axis of each array, non-negative; None for arrays without one."""
    if stacked is None:
        return [None] * len(layout)
    axes = layout.match(resolve(stacked, tree), "stacked", default=None)
    _checks.entries("stacked", layout, axes, "integers", int | np.integer | None, bool)
    for i, (path, x) in enumerate(zip(layout.paths, layout.leaves(tree), strict=True)):
        if axes[i] is not None:
            if not -jnp.ndim(x) <= axes[i] < jnp.ndim(x):
                raise ValueError(
                    f"`stacked` has axis {axes[i]} {at(path)}, where the array "
                    f"has shape {jnp.shape(x)}"
                )
            axes[i] = int(axes[i]) % jnp.ndim(x)
    return axes
