"""Mesh axes along which the sums of sharded arrays are to be added up.

Under plain ``jax.jit`` an array is one array, on however many devices it lies, and its
sum is the whole sum. Inside ``jax.shard_map`` a device sees its own shard. Which arrays
differ between the devices is a part of their types there, unless that is switched off.
"""

import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jax.tree_util import tree_flatten_with_path

from dtnh_jax import _checks

# A name, several, or a pytree prefix of PartitionSpec.
AxisName = Any


class Axes(NamedTuple):
    """Where sums go on beyond a device. Static: it is known when a tree is traced.

    Attributes:
      names: of the axes along which sums are to be added up; most often none.
      copies: for each leaf, on how many of the devices along ``names`` the same part
        of it lies. So often its sums would be counted.
    """

    names: tuple[str, ...]
    copies: tuple[int, ...]


def check(axis_name: AxisName) -> None:
    """Raises where ``axis_name`` is nothing that could name mesh axes."""
    if axis_name is None or _names(axis_name) is not None:
        return
    specs = jax.tree.leaves(axis_name)
    if not (specs and all(isinstance(x, PartitionSpec) for x in specs)):
        raise TypeError(
            "`axis_name` must be the name of a mesh axis, a tuple of names, or a "
            f"pytree of jax.sharding.PartitionSpec, got {axis_name!r}"
        )


def find(axis_name: AxisName, tree: Any, *halves: list[jax.Array]) -> Axes:
    """Along which axes to add up the sums over the leaves of ``tree``.

    Args:
      axis_name: what the user said.
      tree: for its structure and paths.
      halves: lists of arrays shaped like the leaves of ``tree``. A leaf is sharded
        where one of its arrays is.
    """
    check(axis_name)
    varying = [frozenset().union(*map(_varying, x)) for x in zip(*halves, strict=True)]
    if axis_name is None:
        _nothing_is_sharded(tree, varying)
        return Axes((), (1,) * len(varying))
    named = _of_leaves(axis_name, tree)
    sizes = {name: _size(name) for names in named for name in names}
    typed = {name for name in sizes if _is_typed(name)}
    sharded = [
        [name for name in names if name not in typed or name in varies]
        for names, varies in zip(named, varying, strict=True)
    ]
    summed = tuple(dict.fromkeys(name for names in sharded for name in names))
    copies = tuple(
        math.prod(sizes[name] for name in summed if name not in names)
        for names in sharded
    )
    return Axes(summed, copies)


def total(axes: Axes, *sums: jax.Array) -> Sequence[jax.Array]:
    """Arrays of one shape, each added up along ``axes``; in one collective."""
    if not axes.names:
        return sums
    together: Any = jax.lax.psum(jnp.stack(sums), axes.names)
    return list(together)


def _names(axis_name: AxisName) -> tuple[str, ...] | None:
    """``axis_name`` as a tuple of names; None where it is no such thing."""
    if isinstance(axis_name, str):
        return (axis_name,)
    if isinstance(axis_name, tuple | list) and all(
        isinstance(name, str) for name in axis_name
    ):
        return tuple(axis_name)
    return None


def _of_leaves(axis_name: AxisName, tree: Any) -> list[tuple[str, ...]]:
    """For each leaf of ``tree`` the names that hold for it."""
    names = _names(axis_name)
    if names is not None:
        return [names] * len(jax.tree.leaves(tree))
    try:
        specs = jax.tree.leaves(jax.tree.broadcast(axis_name, tree))
    except ValueError as error:
        raise ValueError(
            "the specs in `axis_name` do not fit the gradients; they must be a tree of "
            f"the same structure, or a prefix of it: {error}"
        ) from error
    return [
        tuple(
            name
            for part in spec
            if part is not None
            for name in ((part,) if isinstance(part, str) else part)
        )
        for spec in specs
    ]


def _nothing_is_sharded(tree: Any, varying: list[frozenset[str]]) -> None:
    """Raises where arrays are or may be sharded, and nobody said over which axes."""
    for (path, _), axes in zip(tree_flatten_with_path(tree)[0], varying, strict=True):
        if axes:
            raise ValueError(
                "each device has its own gradient along the mesh "
                f"{_axes(axes)} {_checks.at(path)}, so that inner products on one "
                f"device are not those of the whole. {_advice(axes)}"
            )
    manual = jax.sharding.get_abstract_mesh().manual_axes
    if varying and manual and not all(map(_is_typed, manual)):
        raise ValueError(
            "whether the gradients are sharded over the mesh "
            f"{_axes(manual)} cannot be seen here, where jax.shard_map runs with "
            f"check_vma=False (as in jax.pmap). {_advice(manual)}. Where only some "
            "arrays are sharded, pass a pytree of jax.sharding.PartitionSpec"
        )


def _axes(names: Collection[str]) -> str:
    plural = "axes" if len(names) > 1 else "axis"
    return f"{plural} {', '.join(map(repr, sorted(names)))}"


def _advice(names: Collection[str]) -> str:
    example = min(names) if len(names) == 1 else tuple(sorted(names))
    return (
        f"Name the axes over which arrays are sharded, as in `axis_name={example!r}`; "
        "average gradients first over an axis that divides the batch, as jax.lax.pmean "
        "does; or pass `axis_name=()` if every device trains a network of its own"
    )


def _size(name: str) -> int:
    try:
        return jax.lax.axis_size(name)
    except NameError:
        bound = jax.sharding.get_abstract_mesh().manual_axes
        raise ValueError(
            f"`axis_name` has {name!r}, which is no axis "
            + (f"here, where there are {bound}" if bound else "outside jax.shard_map")
            + "; under jax.jit alone, on arrays sharded over any mesh, leave it out"
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
