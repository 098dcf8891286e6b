"""Inner products within each group."""

import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from dtnh_jax import _axes, _precision
from dtnh_jax._axes import Axes
from dtnh_jax._groups import Groups, Slot

Arrays = list[jax.Array]

# Width of the table in `_by_mask`. Any width is correct; the square root of the number
# of groups is cheapest.
_WIDTH = 32


def products(
    pairs: list[tuple[Arrays, Arrays]], groups: Groups, axes: Axes, dtype: np.dtype
) -> jax.Array:
    """The inner product of each pair of lists in each group, ``[len(pairs), K]``.

    Sums are taken array by array, without reshaping, so that sharded arrays are not
    moved. If several devices hold the same array, its sum is divided by their number,
    so that it counts once in the total.
    """
    if any(x.dtype.itemsize < dtype.itemsize for pair in pairs for x in pair[0]):
        # If several sums convert the same array, XLA on a CPU stores a float32 copy of
        # it. Behind the barrier the inputs look different, and each sum converts as it
        # goes.
        pairs = jax.lax.platform_dependent(
            pairs, cpu=jax.lax.optimization_barrier, default=lambda x: x
        )
    totals = jax.lax.platform_dependent(
        [list(_products(a, b, dtype)) for a, b in pairs],
        cuda=lambda rows: _totals_together(rows, groups, axes, dtype),
        default=lambda rows: _totals_apart(rows, groups, axes, dtype),
    )
    return _axes.total(axes, totals)


def scalars(vectors: jax.Array, groups: Groups) -> list[jax.Array]:
    """Splits ``[n, K]`` by family: ``[n]``, or ``[n, count]`` for a stacked one."""
    wanted = [f.first for f in groups.families if f.count is None]
    single = iter(
        jax.lax.platform_dependent(
            vectors,
            # On a CPU, XLA compiles identical kernels once. A slice is fused into the
            # kernel of each array and makes the kernels differ: with 300 groups,
            # compilation takes five times as long.
            cpu=lambda x: _by_mask(x, wanted),
            default=lambda x: [x[:, k] for k in wanted],
        )
    )
    return [
        next(single) if f.count is None else vectors[:, f.first : f.last]
        for f in groups.families
    ]


def sizes(arrays: Arrays, groups: Groups, axes: Axes) -> np.ndarray:
    """The global number of real elements in each group, ``[K]``."""
    found = np.zeros(len(groups.names))
    for x, slot, parts in zip(arrays, groups.slots, axes.parts, strict=True):
        slices = 1 if slot.axis is None else max(x.shape[slot.axis], 1)
        reals = 2 if jnp.iscomplexobj(x) else 1
        found[slot.first : slot.last] += parts * reals * x.size / slices
    return found


def floor(arrays: Arrays, groups: Groups, axes: Axes, dtype: np.dtype) -> np.ndarray:
    """The squared norm below which a gradient counts as zero in each group, ``[K]``.

    Squares below the smallest normal number ``tiny`` underflow. Together they take at
    most ``size * tiny`` from a squared norm. Above ``size * tiny / eps``, that is less
    than the rounding error.
    """
    info = jnp.finfo(dtype)
    scale = float(info.tiny) / float(info.eps)
    return np.asarray(sizes(arrays, groups, axes) * scale, dtype)


def norms(squares: jax.Array, lowest: np.ndarray) -> jax.Array:
    """Norms from their squares ``[..., K]``: 0 below ``lowest``, NaN on overflow.

    An infinity would give a cosine of 0, which means "no conflict".
    """
    roots = jnp.sqrt(jnp.where(squares < lowest, 0, squares))
    return jnp.where(jnp.isinf(squares), jnp.nan, roots)


def divide(numerator: jax.Array, norm: jax.Array) -> jax.Array:
    """``numerator / norm``, or 0 where the norm is zero."""
    zero = norm == 0
    return jnp.where(zero, 0, numerator / jnp.where(zero, 1, norm))


def _products(a: Arrays, b: Arrays, dtype: np.dtype) -> Iterator[jax.Array]:
    """Yields the real part of ``conj(a) * b``, array by array."""
    for x, y in zip(a, b, strict=True):
        x, y = (_precision.accumulate_in(dtype, each) for each in (x, y))
        yield jnp.real(jnp.conj(x) * y)


def _totals_apart(
    rows: list[Arrays], groups: Groups, axes: Axes, dtype: np.dtype
) -> jax.Array:
    """This device's part of the total of each row in each group, ``[len(rows), K]``."""
    sums = [
        [
            jnp.sum(x, axis=_summed(x, slot))
            for x, slot in zip(row, groups.slots, strict=True)
        ]
        for row in rows
    ]
    wholes = (_of_whole_arrays(row, groups, axes) for row in sums)
    return jnp.stack([_of_families(row, groups, dtype) for row in wholes])


def _totals_together(
    rows: list[Arrays], groups: Groups, axes: Axes, dtype: np.dtype
) -> jax.Array:
    """The same, with one operation for all sums of an array, and one for all totals.

    This more than halves the kernels of an update on a GPU, where each stage of a large
    sum is a kernel of its own. On a CPU it is inaccurate, because XLA then adds numbers
    one by one, and slower to compile, because it fuses less.
    """
    columns = [
        jax.lax.reduce(xs, [np.zeros((), dtype)] * len(xs), _add, _summed(xs[0], slot))
        for slot, *xs in zip(groups.slots, *rows, strict=True)
    ]
    sums = ([column[i] for column in columns] for i in range(len(rows)))
    wholes = (_of_whole_arrays(row, groups, axes) for row in sums)
    parts = [x.reshape(-1) for row in wholes for x in row]
    flat = jnp.concatenate([jnp.zeros(0, dtype), *parts])
    table = jnp.pad(flat.reshape(len(rows), -1), ((0, 0), (0, 1)))
    table = jax.lax.optimization_barrier(table)  # as in `_total`
    return jnp.sum(table[:, _columns(groups)], axis=-1)


def _add(a: Arrays, b: Arrays) -> Arrays:
    return [x + y for x, y in zip(a, b, strict=True)]


def _summed(x: jax.Array, slot: Slot) -> tuple[int, ...]:
    """The axes to sum over: all but the stacked one."""
    return tuple(i for i in range(x.ndim) if i != slot.axis)


def _of_whole_arrays(row: Arrays, groups: Groups, axes: Axes) -> Arrays:
    """This device's contributions to the sums of arrays over all devices."""
    found = []
    for x, slot, copies, names in zip(
        row, groups.slots, axes.copies, axes.along, strict=True
    ):
        part = _axes.replicated(x)
        part = part if copies == 1 else part / copies
        if slot.count is not None and part.shape[0] < slot.count:  # a shard
            start = _axes.shard_start(names, part.shape[0])
            zeros = jnp.zeros(slot.count, part.dtype)
            part = jax.lax.dynamic_update_slice_in_dim(zeros, part, start, axis=0)
        found.append(part)
    return found


def _of_families(row: Arrays, groups: Groups, dtype: np.dtype) -> jax.Array:
    """The total of each group, ``[K]``, from the sums of each array."""
    parts: dict[Slot, Arrays] = {f: [] for f in groups.families}
    for x, slot in zip(row, groups.slots, strict=True):
        parts[slot._replace(axis=None)].append(x)
    totals = [_total(f, x, dtype) for f, x in parts.items()]
    # The usual case takes one operation instead of one per group.
    if totals and all(x.ndim == 0 for x in totals):
        return jnp.stack(totals)
    return jnp.concatenate([jnp.zeros(0, dtype), *(x.reshape(-1) for x in totals)])


def _total(family: Slot, parts: Arrays, dtype: np.dtype) -> jax.Array:
    if not parts:
        return jnp.zeros(() if family.count is None else family.count, dtype)
    if len(parts) == 1:
        return parts[0]
    # Without the barrier, XLA turns the sum into a chain of additions and repeats the
    # chain in the kernel of every array.
    return jnp.sum(jax.lax.optimization_barrier(jnp.stack(parts)), axis=0)


def _columns(groups: Groups) -> np.ndarray:
    """Indices of the sums of each group in a list over arrays and their slices.

    Returns:
      ints ``[K, n]``, filled up with -1, where the list must have a zero.
    """
    columns: list[list[int]] = [[] for _ in groups.names]
    at = itertools.count()
    for slot in groups.slots:
        for group in range(slot.first, slot.last):
            columns[group].append(next(at))
    most = max(map(len, columns), default=0)
    rows = [column + [-1] * (most - len(column)) for column in columns]
    return np.array(rows, np.int32).reshape(len(columns), most)


def _by_mask(vectors: jax.Array, wanted: list[int]) -> list[jax.Array]:
    """``[vectors[:, k] for k in wanted]``, computed as masked sums.

    Picks a row of a table, then an entry of the row, so that the masks stay small.
    """
    n, groups = vectors.shape
    height = -(-groups // _WIDTH)
    table = jnp.pad(vectors, ((0, 0), (0, height * _WIDTH - groups)))
    table = table.reshape(n, height, _WIDTH)
    row_masks, masks = np.eye(height, dtype=bool), np.eye(_WIDTH, dtype=bool)
    rows = [
        jnp.sum(jnp.where(mask[None, :, None], table, 0), axis=1) for mask in row_masks
    ]
    return [
        jnp.sum(jnp.where(masks[k % _WIDTH][None], rows[k // _WIDTH], 0), axis=1)
        for k in wanted
    ]
