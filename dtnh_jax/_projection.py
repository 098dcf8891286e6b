"""The geometry of two gradients, and the projection.

In each group ``r' = r - min(0, cos) |r| / |m| m`` is the point nearest to ``r`` that
does not oppose the reference ``m`` (Wan et al., 2019, equation 4).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dtnh_jax import _axes, _checks, _groups, _precision, _sums, _trees
from dtnh_jax._axes import Axes
from dtnh_jax._groups import Groups, Slot
from dtnh_jax._pair import GradientPair
from dtnh_jax._sums import Arrays

# What to do with the regularizer in a group in conflict.
RULES = ("project", "drop", "ignore")


class Geometry(NamedTuple):
    """How the regularizer relates to the reference, by group, shape ``[K]``."""

    cosine: jax.Array  # of the angle between the two; 0 where either is zero
    reference: jax.Array  # its norm
    regularizer: jax.Array  # its norm
    others: list[jax.Array]  # the norms of other lists of arrays


class Plan(NamedTuple):
    """``r' = keep * r - push * m``, the weight included, by group, shape ``[K]``."""

    keep: jax.Array
    push: jax.Array  # not positive
    length: jax.Array  # |r'|
    removed: jax.Array  # share of the weighted regularizer, |λr - r'| / |λr|


def geometry(lists: list[Arrays], groups: Groups, axes: Axes) -> Geometry:
    """Norms and cosine of reference, regularizer and others, with one collective."""
    reference, regularizer, *_ = lists
    dtype = _precision.accumulator([x for each in lists for x in each])
    once = list({id(each): each for each in lists}.values())
    pairs = [(each, each) for each in once] + [(reference, regularizer)]
    *squares, dot = _sums.products(pairs, groups, axes, dtype)
    lowest = _sums.floor(reference, groups, axes, dtype)
    norm = {id(x): _sums.norms(s, lowest) for x, s in zip(once, squares, strict=True)}
    m, r, *rest = (norm[id(each)] for each in lists)
    # One division after the other: the product of two norms could underflow.
    cosine = jnp.where(jnp.isinf(dot), jnp.nan, divide(divide(dot, m), r))
    return Geometry(jnp.clip(cosine, -1, 1), m, r, rest)


def divide(numerator: jax.Array, norm: jax.Array) -> jax.Array:
    """``numerator / norm``, or 0 where the norm is zero."""
    zero = norm == 0
    return jnp.where(zero, 0, numerator / jnp.where(zero, 1, norm))


def plan(geo: Geometry, weight: Any, on_conflict: str, limit: Any | None) -> Plan:
    """Decides how much to keep in each group, and how far to push it out of conflict.

    ``weight`` is the scalar λ, ``on_conflict`` one of ``RULES``, and ``limit`` caps
    ``|r'|``, shape ``[K]``, unless it is None.
    """
    weight = jnp.asarray(weight, geo.cosine.dtype)
    opposed = jnp.minimum(geo.cosine, 0)  # NaN stays NaN
    keep, along = jnp.ones_like(opposed), jnp.zeros_like(opposed)
    if on_conflict == "drop":
        keep = 1 + jnp.sign(opposed)
    size = weight * geo.regularizer
    length = size * keep
    if on_conflict == "project":
        # The rest has norm |r| * sine. The square of the cosine is known to within some
        # eps, so the sine is rounded up: the cap must not be exceeded.
        along = opposed
        length = size * jnp.sqrt(1 - opposed**2 + 32 * jnp.finfo(size.dtype).eps)
    if limit is not None:
        within = length <= limit
        share = jnp.where(within, 1, limit / jnp.where(within, 1, length))
        keep, along = share * keep, share * along
        length = share * length
    # (r - r') / |r| = (1 - keep) * unit(r) + along * unit(reference)
    lost = 1 - keep
    square = lost**2 + 2 * lost * along * geo.cosine + along**2
    removed = jnp.where(geo.regularizer == 0, 0, jnp.sqrt(square))
    push = divide(along * size, geo.reference)
    return Plan(weight * keep, push, length, removed)


def remainders(
    plan_: Plan, reference: Arrays, regularizer: Arrays, groups: Groups, axes: Axes
) -> Iterator[jax.Array]:
    """``r'``, array by array, in the accumulator's dtype."""
    both = jax.lax.optimization_barrier(jnp.stack([plan_.keep, plan_.push]))
    factors = dict(zip(groups.families, _sums.scalars(both, groups), strict=True))
    dtype = plan_.keep.dtype
    arrays = zip(reference, regularizer, groups.slots, axes.stacked, strict=True)
    for m, r, slot, names in arrays:
        keep, push = (
            _along(x, slot, m.shape, names) for x in factors[slot._replace(axis=None)]
        )
        kept = _precision.times(_precision.accumulate_in(dtype, r), keep)
        pushed = _precision.times(_precision.accumulate_in(dtype, m), push)
        # Even an exact zero, subtracted, would turn -0.0 into 0.0.
        yield jnp.where(pushed == 0, kept, kept - pushed)


def add(base: jax.Array, remainder: jax.Array, like: jax.Array) -> jax.Array:
    """``d = u + r'`` for one array, in the dtype to which ``u`` and ``r`` promote."""
    total = base.astype(remainder.dtype) + remainder
    return total.astype(_precision.promoted([base, like]))


def _along(part: jax.Array, slot: Slot, shape: Any, names: Any) -> jax.Array:
    """A family's numbers, shaped to broadcast against one of its arrays."""
    if slot.axis is None:
        return part
    length = shape[slot.axis]
    if length < part.shape[0]:  # a shard
        start = _sums.shard_start(names, length)
        part = jax.lax.dynamic_slice_in_dim(part, start, length)
    return part.reshape([length if i == slot.axis else 1 for i in range(len(shape))])


def project_conflict(  # noqa: D417
    pair: GradientPair,
    *,
    granularity: _groups.Granularity = "global",
    stacked: _groups.Stacked = None,
    axis_name: _axes.AxisName = None,
) -> Any:
    r"""Removes from the regularizer gradient what opposes the loss gradient.

    In every group, :math:`r' = r - \min(0, \langle g, r\rangle) / \|g\|^2 \cdot g`: the
    nearest point to :math:`r` with :math:`\langle g, r'\rangle \ge 0` (`Wan et al.,
    2019 <https://arxiv.org/abs/1911.07489>`_). Without conflict it is ``r`` itself.

    Args:
      pair: the empirical gradient :math:`g` and the regularizer gradient :math:`r`,
        pytrees of one structure, of floating-point or complex arrays.
      granularity, stacked, axis_name: see :func:`dtnh`.

    Returns:
      A pytree like ``pair.regularizer``, in structure, shapes and dtypes.

    Raises:
      ValueError: if the trees do not match, or ``axis_name`` is missing or unknown.
      TypeError: if ``pair`` is no :class:`GradientPair`, or has integer arrays.

    Examples:
      >>> import jax.numpy as jnp
      >>> from dtnh_jax import GradientPair, project_conflict
      >>> g = {"w": jnp.array([1.0, 0.0])}
      >>> r = {"w": jnp.array([-3.0, 2.0])}
      >>> project_conflict(GradientPair(empirical=g, regularizer=r))["w"]
      Array([0., 2.], dtype=float32)
      >>> r = {"w": jnp.array([3.0, 2.0])}
      >>> project_conflict(GradientPair(empirical=g, regularizer=r))["w"]
      Array([3., 2.], dtype=float32)
    """
    if not isinstance(pair, GradientPair):
        raise TypeError(
            "project_conflict takes a GradientPair(empirical=g, regularizer=r), got "
            f"{_checks.describe(pair)}"
        )
    pair = _checks.as_pair(pair, None)
    groups = _groups.divide(pair.empirical, granularity, stacked, axis_name)
    _groups.warn_of_flat(pair.empirical, granularity, groups)
    layout = _trees.Layout(pair.empirical)
    g, r = (layout.arrays(half) for half in pair)
    axes = _axes.find(axis_name, layout, [g, r], groups.axes)
    geo = geometry([g, r], groups, axes)
    rest = remainders(plan(geo, 1.0, "project", None), g, r, groups, axes)
    return layout.build(x.astype(y.dtype) for x, y in zip(rest, r, strict=True))
