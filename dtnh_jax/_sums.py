"""Inner products within each group."""

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
    rows = [_of_families(a, b, groups, axes, dtype) for a, b in pairs]
    return _axes.total(axes, jnp.stack(rows))


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


def _of_families(
    a: Arrays, b: Arrays, groups: Groups, axes: Axes, dtype: np.dtype
) -> jax.Array:
    """This device's part of the inner product of two lists in each group, ``[K]``."""
    parts: dict[Slot, list[jax.Array]] = {f: [] for f in groups.families}
    for x, y, slot, copies, names in zip(
        a, b, groups.slots, axes.copies, axes.along, strict=True
    ):
        part = _axes.replicated(_dot(x, y, slot.axis, dtype))
        part = part if copies == 1 else part / copies
        if slot.count is not None and part.shape[0] < slot.count:  # a shard
            start = _axes.shard_start(names, part.shape[0])
            part = jax.lax.dynamic_update_slice_in_dim(
                jnp.zeros(slot.count, dtype), part, start, axis=0
            )
        parts[slot._replace(axis=None)].append(part)
    totals = [_total(f, x, dtype) for f, x in parts.items()]
    # The usual case takes one operation instead of one per group.
    if totals and all(x.ndim == 0 for x in totals):
        return jnp.stack(totals)
    return jnp.concatenate([jnp.zeros(0, dtype), *(x.reshape(-1) for x in totals)])


def _total(family: Slot, parts: list[jax.Array], dtype: np.dtype) -> jax.Array:
    if not parts:
        return jnp.zeros(() if family.count is None else family.count, dtype)
    if len(parts) == 1:
        return parts[0]
    # Without the barrier, XLA turns the sum into a chain of additions and repeats the
    # chain in the kernel of every array.
    return jnp.sum(jax.lax.optimization_barrier(jnp.stack(parts)), axis=0)


def _dot(a: jax.Array, b: jax.Array, axis: int | None, dtype: np.dtype) -> jax.Array:
    """The real inner product: a scalar, or a vector with one per slice of ``axis``."""
    a, b = _precision.accumulate_in(dtype, a), _precision.accumulate_in(dtype, b)
    others = tuple(i for i in range(a.ndim) if i != axis)
    return jnp.sum(jnp.real(jnp.conj(a) * b), axis=others)


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
