"""Mesh axes along which sums over sharded arrays must be reduced.

Inside ``jax.shard_map`` each device sees only its own shard. The array types say which
arrays differ between devices, unless ``check_vma=False``. Outside it, every sum is
already complete.
"""

import math
from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from dtnh_jax import _checks
from dtnh_jax._trees import Layout, at

# One name, several names, or a pytree prefix of PartitionSpec.
AxisName = Any

_ADVICE = (
    "If an axis only splits the batch, average the gradients over it first, with "
    "jax.lax.pmean. If every device holds whole arrays, because the gradients are "
    "already averaged or each device trains its own network, pass `axis_name=()`. If "
    "arrays are sharded, pass"
)


class Axes(NamedTuple):
    """Which sums extend over several devices. Static: known at trace time."""

    names: tuple[str, ...]  # axes along which sums are reduced; usually none
    # For each array: how many devices along `names` hold the same part of it; into how
    # many parts it (or a slice along its stacked axis) is split; and the mesh axes over
    # which its stacked axis is sharded.
    copies: tuple[int, ...]
    parts: tuple[int, ...]
    along: tuple[tuple[str, ...], ...]


def check(axis_name: AxisName) -> None:
    """Raises if ``axis_name`` cannot name mesh axes."""
    kinds = set(map(type, jax.tree.leaves(axis_name)))
    if _names(axis_name) is None and kinds != {PartitionSpec}:
        raise TypeError(
            "`axis_name` must be the name of a mesh axis, a tuple of names, or a "
            f"pytree of jax.sharding.PartitionSpec, got {axis_name!r}"
        )


def find(
    axis_name: AxisName, layout: Layout, lists: list[Any], stacked: list[int | None]
) -> Axes:
    """Finds the axes along which to reduce sums over the arrays of a tree.

    An array counts as sharded if it is sharded in any of ``lists``.
    """
    check(axis_name)
    varying = [frozenset().union(*map(_varying, x)) for x in zip(*lists, strict=True)]
    if axis_name is None:
        _check_whole(layout, varying)
    named, along = _of_arrays(axis_name, layout, stacked)
    sizes = {name: _size(name) for names in named for name in names}
    typed = set(filter(_is_typed, sizes))
    sharded = [
        [name for name in names if name not in typed or name in varies]
        for names, varies in zip(named, varying, strict=True)
    ]
    for path, axis, names in zip(layout.paths, stacked, sharded, strict=True):
        if axis is not None and names and _names(axis_name) is not None:
            raise ValueError(
                "`axis_name` does not say whether the stacked axis of the array "
                f"{at(path)} is sharded over {names}: pass a pytree of PartitionSpec"
            )
    summed = tuple(dict.fromkeys(name for names in sharded for name in names))

    def devices(names: Collection[str], without: Collection[str]) -> int:
        return math.prod(sizes[name] for name in names if name not in without)

    copies = tuple(devices(summed, names) for names in sharded)
    return Axes(summed, copies, tuple(map(devices, sharded, along)), tuple(along))


def whole_lengths(
    axis_name: AxisName, layout: Layout, arrays: list[Any], stacked: list[int | None]
) -> list[int | None]:
    """The global length of each stacked axis; None for arrays without one."""
    if stacked == [None] * len(layout):
        return stacked
    _, along = _of_arrays(axis_name, layout, stacked)
    bound = jax.sharding.get_abstract_mesh().manual_axes
    parts = [math.prod(_size(x) for x in names if x in bound) for names in along]
    return [
        None if axis is None else jnp.shape(x)[axis] * n
        for x, axis, n in zip(arrays, stacked, parts, strict=True)
    ]


def total(axes: Axes, sums: jax.Array) -> jax.Array:
    """Reduces ``sums`` along ``axes``, in one collective."""
    return jax.lax.psum(sums, axes.names) if axes.names else sums


def replicated(x: jax.Array) -> jax.Array:
    """Replicates ``x``, as an explicit mesh requires of arrays that are stacked."""
    if any(part is not None for part in jax.typeof(x).sharding.spec):
        return jax.sharding.reshard(x, PartitionSpec())
    return x


def shard_start(names: tuple[str, ...], length: int) -> jax.Array:
    """The index along the stacked axis where this device's shard starts."""
    return jax.lax.axis_index(names) * length


def _names(axis_name: AxisName) -> tuple[str, ...] | None:
    """``axis_name`` as a tuple of names; None if it is a tree."""
    if axis_name is None or isinstance(axis_name, str):
        return () if axis_name is None else (axis_name,)
    if not isinstance(axis_name, tuple | list):
        return None
    return tuple(axis_name) if all(isinstance(x, str) for x in axis_name) else None


def _of_arrays(
    axis_name: AxisName, layout: Layout, stacked: list[int | None]
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """For each array, the names that apply to it, and those of its stacked axis."""
    names = _names(axis_name)
    if names is not None:
        return [names] * len(layout), [()] * len(layout)
    specs = layout.match(axis_name, "axis_name")
    must = "PartitionSpec, with PartitionSpec() for arrays whole on every device"
    _checks.entries("axis_name", layout, specs, must, PartitionSpec)
    named, along = [], []
    for spec, axis in zip(specs, stacked, strict=True):
        parts = [_names(part) or () for part in spec]
        named.append(tuple(name for part in parts for name in part))
        along.append(() if axis is None or axis >= len(parts) else parts[axis])
    return named, along


def _check_whole(layout: Layout, varying: list[frozenset[str]]) -> None:
    """Raises if arrays are, or may be, sharded over axes that were not named."""
    for path, axes in zip(layout.paths, varying, strict=True):
        if axes:
            names = tuple(sorted(axes))
            raise ValueError(
                f"gradients differ between devices along the mesh axes {names} "
                f"{at(path)}. {_ADVICE} `axis_name={names}`"
            )
    names = jax.sharding.get_abstract_mesh().manual_axes
    if varying and not all(map(_is_typed, names)):
        raise ValueError(
            f"cannot tell whether gradients are sharded over the mesh axes {names} "
            f"inside jax.pmap, or jax.shard_map with check_vma=False. {_ADVICE} "
            f"`axis_name={names}` or, if only some are, a pytree of PartitionSpec"
        )


def _size(name: str) -> int:
    try:
        return jax.lax.axis_size(name)
    except NameError:
        bound = jax.sharding.get_abstract_mesh().manual_axes
        raise ValueError(
            f"`axis_name` has {name!r}, but the axes here are {bound or 'none'}; under "
            "jax.jit alone, leave it out, however the arrays are sharded"
        ) from None


def _is_typed(name: str) -> bool:
    """Whether types track what varies along an axis.

    They do not in ``jax.pmap`` or ``jax.vmap``, or with ``check_vma=False``.
    """
    return name in _varying(jax.lax.axis_index(name))


def _varying(x: jax.Array) -> frozenset[str]:
    """Axes of ``jax.shard_map`` along which ``x`` may differ between devices."""
    kind: Any = jax.typeof(x)
    # JAX 0.10 moved the type's own attribute `vma` here.
    manual = getattr(kind, "manual_axis_type", None)
    return kind.vma if manual is None else manual.varying
