"""Mesh axes along which the sums of sharded arrays are to be added up.

Under plain ``jax.jit`` an array is one array, on however many devices it is, and its
sum is the whole sum. Inside ``jax.shard_map`` a device sees its own shard. Which arrays
differ between the devices is a part of their types there, unless that is switched off.
"""

import math
from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from dtnh_jax import _trees

# A name, several, or a pytree prefix of PartitionSpec.
AxisName = Any


class Axes(NamedTuple):
    """Where sums extend beyond a device. Static: it is known when a tree is traced.

    Attributes:
      names: of the axes along which sums are added up; most often none.
      copies: for each array, how many devices along ``names`` hold the same part of it.
      parts: for each array, the number of parts into which it, or a slice along its
        stacked axis, is divided.
      stacked: for each array, the axes along which its stacked axis is sharded.
    """

    names: tuple[str, ...]
    copies: tuple[int, ...]
    parts: tuple[int, ...]
    stacked: tuple[tuple[str, ...], ...]


def check(axis_name: AxisName) -> None:
    """Raises where ``axis_name`` is nothing that could name mesh axes."""
    specs = jax.tree.leaves(axis_name)
    if _names(axis_name) is None and not (
        specs and all(isinstance(x, PartitionSpec) for x in specs)
    ):
        raise TypeError(
            "`axis_name` must be the name of a mesh axis, a tuple of names, or a "
            f"pytree of jax.sharding.PartitionSpec, got {axis_name!r}"
        )


def find(
    axis_name: AxisName,
    layout: _trees.Layout,
    halves: list[list[jax.Array]],
    stacked: list[int | None] | None = None,
) -> Axes:
    """Along which axes to add up the sums over the arrays of a tree.

    ``halves`` are lists with one array for each of the tree's, which is sharded where
    one of them is; ``stacked`` are the stacked axes.
    """
    check(axis_name)
    stacks: list[int | None] = [None] * len(layout) if stacked is None else stacked
    varying = [frozenset().union(*map(_varying, x)) for x in zip(*halves, strict=True)]
    if axis_name is None:
        _check_whole(layout, varying)
    named, along = _of_arrays(axis_name, layout, stacks)
    sizes = {name: _size(name) for names in named for name in names}
    typed = {name for name in sizes if _is_typed(name)}
    sharded = [
        [name for name in names if name not in typed or name in varies]
        for names, varies in zip(named, varying, strict=True)
    ]
    if _names(axis_name) is not None:
        for path, axis, names in zip(layout.paths, stacks, sharded, strict=True):
            if axis is not None and names:
                raise ValueError(
                    f"names do not tell whether the stacked axis of the array "
                    f"{_trees.at(path)} is itself sharded over {names}: pass a pytree "
                    "of jax.sharding.PartitionSpec as `axis_name`"
                )
    summed = tuple(dict.fromkeys(name for names in sharded for name in names))

    def devices(names: Collection[str], without: Collection[str]) -> int:
        return math.prod(sizes[name] for name in names if name not in without)

    copies = tuple(devices(summed, names) for names in sharded)
    parts = tuple(map(devices, sharded, along))
    return Axes(summed, copies, parts, tuple(along))


def whole_lengths(
    axis_name: AxisName,
    layout: _trees.Layout,
    arrays: list[Any],
    stacked: list[int | None],
) -> list[int | None]:
    """The length of each stacked axis, over all devices; None where there is none."""
    lengths: list[int | None] = [None] * len(layout)
    if lengths == stacked:
        return lengths
    bound = jax.sharding.get_abstract_mesh().manual_axes
    _, along = _of_arrays(axis_name, layout, stacked)
    for i, axis in enumerate(stacked):
        if axis is not None:
            sizes = (_size(name) for name in along[i] if name in bound)
            lengths[i] = jnp.shape(arrays[i])[axis] * math.prod(sizes)
    return lengths


def total(axes: Axes, sums: jax.Array) -> jax.Array:
    """``sums`` added up along ``axes``, in one collective."""
    return jax.lax.psum(sums, axes.names) if axes.names else sums


def replicated(x: jax.Array) -> jax.Array:
    """``x`` on every device, where its type, on an explicit mesh, says it is sharded.

    Arrays that are put together must have one sharding there.
    """
    if any(part is not None for part in jax.typeof(x).sharding.spec):
        return jax.sharding.reshard(x, PartitionSpec())
    return x


def _names(axis_name: AxisName) -> tuple[str, ...] | None:
    """``axis_name`` as a tuple of names; None where it is a tree."""
    if axis_name is None or isinstance(axis_name, str):
        return () if axis_name is None else (axis_name,)
    if not isinstance(axis_name, tuple | list):
        return None
    return tuple(axis_name) if all(isinstance(x, str) for x in axis_name) else None


def _of_arrays(
    axis_name: AxisName, layout: _trees.Layout, stacked: list[int | None]
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """For each array the names that hold for it, and those of its stacked axis."""
    names = _names(axis_name)
    if names is not None:
        return [names] * len(layout), [()] * len(layout)
    named, along = [], []
    specs = layout.match(axis_name, "axis_name")
    for path, spec, axis in zip(layout.paths, specs, stacked, strict=True):
        if spec is None:
            raise ValueError(
                f"`axis_name` has None {_trees.at(path)}: where an array is whole on "
                "every device, put PartitionSpec() there"
            )
        parts = [_names(part) or () for part in spec]
        named.append(tuple(name for part in parts for name in part))
        along.append(() if axis is None or axis >= len(parts) else parts[axis])
    return named, along


def _check_whole(layout: _trees.Layout, varying: list[frozenset[str]]) -> None:
    """Raises where arrays are or may be sharded, over axes that nobody named."""
    for path, axes in zip(layout.paths, varying, strict=True):
        if axes:
            raise ValueError(
                f"each device has its own gradient along the mesh {_axes(axes)} "
                f"{_trees.at(path)}, so that inner products on one device are not "
                f"those of the whole. {_advice(axes)}"
            )
    manual = jax.sharding.get_abstract_mesh().manual_axes
    if varying and not all(map(_is_typed, manual)):
        raise ValueError(
            f"whether the gradients are sharded over the mesh {_axes(manual)} cannot "
            "be seen here, in jax.pmap or in jax.shard_map with check_vma=False. "
            f"{_advice(manual)}. Where only some arrays are sharded, pass a pytree of "
            "jax.sharding.PartitionSpec"
        )


def _axes(names: Collection[str]) -> str:
    plural = "axes" if len(names) > 1 else "axis"
    return f"{plural} {', '.join(map(repr, sorted(names)))}"


def _advice(names: Collection[str]) -> str:
    example = min(names) if len(names) == 1 else tuple(sorted(names))
    return (
        "If every device holds whole arrays, with gradients already averaged over the "
        "devices or of a network of its own, pass `axis_name=()`. If arrays are "
        f"sharded, name the axes, as in `axis_name={example!r}`. If an axis divides "
        "the batch alone, average the gradients over it first, as jax.lax.pmean does"
    )


def _size(name: str) -> int:
    try:
        return jax.lax.axis_size(name)
    except NameError:
        bound = jax.sharding.get_abstract_mesh().manual_axes
        raise ValueError(
            f"`axis_name` has {name!r}, but the axes here are {bound or 'none'}; under "
            "jax.jit alone, on arrays sharded over any mesh, leave it out"
        ) from None


def _is_typed(name: str) -> bool:
    """Whether types say what varies along this axis.

    They do not with ``check_vma=False``, in ``jax.pmap`` and along ``jax.vmap``'s.
    """
    return name in _varying(jax.lax.axis_index(name))


def _varying(x: jax.Array) -> frozenset[str]:
    """Axes of ``jax.shard_map`` along which ``x`` may differ between devices."""
    kind: Any = jax.typeof(x)
    # JAX 0.10 put the attribute `vma`, until then of the type itself, in here.
    manual = getattr(kind, "manual_axis_type", None)
    return kind.vma if manual is None else manual.varying
