"""Granularity: which arrays are judged and projected together."""

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

Granularity = str | Any | Callable[[Any], Any]  # a name, labels, or what makes them
Stacked = Any

KNOWN = ("global", "layer", "leaf")


class Slot(NamedTuple):
    """The groups of one array."""

    first: int  # number of its group, or of the first of them
    count: int | None = None  # of its groups, one per slice along `axis`; None for one
    axis: int | None = None  # that is stacked

    @property
    def last(self) -> int:
        """One past its last group."""
        return self.first + (1 if self.count is None else self.count)


class Groups(NamedTuple):
    """A division of a tree's arrays. Static: it is known when the tree is traced."""

    names: tuple[str, ...]  # of the groups, in the order in which the tree shows them
    families: tuple[Slot, ...]  # the different slots, less their axes, in this order
    slots: tuple[Slot, ...]  # of each array

    @property
    def axes(self) -> list[int | None]:
        """The stacked axis of each array; None where there is none."""
        return [slot.axis for slot in self.slots]


def check(granularity: Granularity, stacked: Stacked = None) -> None:
    """Raises where ``granularity`` is a name that is not known, or no tree at all."""
    if isinstance(granularity, str):
        _checks.one_of("granularity", granularity, KNOWN)
        if granularity == "global" and stacked is not None:
            raise ValueError(
                "`stacked` divides layers, of which there are none with "
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
    """Divides the arrays of ``tree``; a stack that is sharded, as the whole one."""
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
        else:  # one label for stacks of several lengths: names tell them apart
            of = f" of {count}" if lengths[key] > 1 else ""
            names += [f"{base[key]}[{i}{of}]" for i in range(count)]
    slots = (
        family[key, count]._replace(axis=axis)
        for key, count, axis in zip(together, counts, axes, strict=True)
    )
    return Groups(tuple(names), tuple(family.values()), tuple(slots))


def of_update(divide_: Callable, gradient: Any, params: Any, at_init: int) -> Groups:
    """The ``at_init`` groups of a gradient, which may lack arrays of the parameters."""
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
            f"the gradients fall into {len(groups.names)} groups, but the parameters "
            f"given to `init` into {at_init}: they must have the same structure"
        )
    return groups


def warn_of_flat(tree: Any, granularity: Granularity, groups: Groups) -> None:
    """Warns where "layer" finds no layers: several matrices in one flat container.

    That is a list, or a dict at the root: any other dict, and any module, has a name.
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
                "taken for one layer, as their paths name no modules. If they are "
                "several, pass labels, a tree of the same structure with one label per "
                "array that names its layer, as `granularity`",
                stacklevel=3,
            )


def _is_nameless(path: Path) -> bool:
    """Whether an array may be the whole of a layer, for what its path says."""
    match path:
        case (DictKey(key=name),):
            return "bias" not in str(name)  # that of several heads has two axes
        case (*_, last):
            return not isinstance(last, DictKey | GetAttrKey)
    return False


def encode(names: Sequence[str]) -> jax.Array:
    """Names as UTF-8 padded with zeros, uint8 ``[K, length]``, for a state."""
    table = np.array([name.encode() for name in names], bytes)
    return jnp.asarray(table.view(np.uint8).reshape(len(names), table.itemsize))


def _together(layout: Layout, tree: Any, granularity: Any) -> tuple[list, dict]:
    """For each array what it shares with its group, and the group's name by that."""
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
    """A short name for each key, or its whole name where short ones coincide."""
    names = {key: short(key) or "(root)" for key in keys}
    if len(set(names.values())) < len(names):
        names = {key: whole(key) for key in names}
    return names


def _stacked_axes(layout: Layout, tree: Any, stacked: Stacked) -> list[int | None]:
    """The stacked axis of each array, non-negative; None where there is none."""
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
