r"""The mathematics: how two gradients stand to each other, and the projection.

In each group :math:`k`, with reference :math:`g_k` and regularizer :math:`r_k`,

.. math:: r'_k = r_k - \min(0, \cos_k)\,\|r_k\|\,\hat g_k,\qquad \hat g_k = g_k/\|g_k\|

is the point nearest to :math:`r_k` that does not oppose :math:`g_k` (Wan et al.,
2019, equation 4). All sums go leaf by leaf and none reshapes, so that arrays sharded
over many devices stay where they are.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dtnh_jax import _axes, _checks, _groups, _precision, _sums

# What may become of the regularizer in a group in conflict.
RULES = ("project", "drop", "ignore")


class Geometry(NamedTuple):
    """How the regularizer stands to the reference, one entry a group, shape ``[K]``.

    Attributes:
      cosine: of the angle between the two; 0 where either is zero.
      reference_norm: Euclidean norm of the reference.
      regularizer_norm: Euclidean norm of the regularizer.
      unit: two factors; the reference times both is a unit vector (or zero).
    """

    cosine: jax.Array
    reference_norm: jax.Array
    regularizer_norm: jax.Array
    unit: tuple[jax.Array, jax.Array]


class Plan(NamedTuple):
    """What becomes of the regularizer, one entry a group, shape ``[K]``.

    ``r' = keep * r - push * unit(reference)``, the weight included.

    Attributes:
      keep: factor of the regularizer.
      push: length taken away along the reference.
      removed: share of the weighted regularizer that is gone, ``|λr - r'| / |λr|``.
    """

    keep: jax.Array
    push: jax.Array
    removed: jax.Array


def geometry(
    reference: list[jax.Array],
    regularizer: list[jax.Array],
    groups: _groups.Groups,
    axes: _axes.Axes,
    *,
    summed: bool = False,
) -> Geometry:
    """Norms and cosine of each group, in one pass over both lists of leaves.

    Squares and products of float32 numbers below 1e-19 underflow, so there are two
    sets of sums: of the numbers as they are, and scaled up by a power of two, which is
    exact. Dividing by the norm first would take a second pass and a second collective.
    A sum that overflows (a norm above 1e19) comes out as NaN, not as "no conflict".

    Args:
      reference: leaves of ``g``.
      regularizer: leaves of ``r``.
      groups: to which group each leaf belongs.
      axes: the mesh axes along which the leaves are shards.
      summed: whether ``r`` is only to be added to something as large as ``g``. Then an
        ``r`` whose squares all underflow beside a ``g`` whose do not need not be told
        from zero.
    """
    dtype = _precision.accumulator([*reference, *regularizer])
    small = np.exp2(np.asarray(-np.finfo(dtype).maxexp * 15 // 32, dtype))
    sums = functools.partial(
        _sums.sums, reference, regularizer, groups, axes.copies, dtype
    )
    plain, scaled_up = sums(), functools.partial(sums, scaled_up=True)
    tiny = plain[:2] < small
    if summed:  # zero is common: a new head without a penalty, parameters at the start
        tiny = tiny.at[1].set(tiny[1] & (plain[1] > 0))
    needed = jnp.any(tiny)
    if jax.default_backend() == "cpu" and _checks.is_traced(needed):
        # A program for the CPU does not fuse the scaling into the sums, which would
        # make them five times as slow: it waits until it is needed. Elsewhere it costs
        # little, as the sums wait for memory. There is no collective in it, as each
        # device decides for itself: what is tiny in total is tiny on every device, a
        # square adding nothing negative; and where one has not scaled, the scaled sums
        # are not looked at. (Or `r` is exactly zero there, and adds as little scaled as
        # not.)
        scaled = jax.lax.cond(needed, scaled_up, lambda: plain)
    else:
        scaled = scaled_up()
    plain, scaled = _axes.total(axes, plain, scaled)
    return _angles(plain, scaled, small)


def _angles(plain: jax.Array, scaled: jax.Array, small: np.ndarray) -> Geometry:
    """The geometry from both sets of sums, each ``[3, K]``; see :func:`_sums.sums`.

    ``small`` is the square below which a sum is taken from ``scaled``.
    """
    one = np.ones_like(small)
    scale = np.exp2(np.asarray(_sums.shift(small.dtype), small.dtype))
    plain = jnp.where(jnp.isinf(plain).any(0), jnp.nan, plain)
    # Norms are kept as (norm times scale, scale) until they have divided something.
    up = jnp.where(plain[:2] < small, scale, one)
    length = jnp.sqrt(jnp.where(plain[:2] < small, scaled[:2], plain[:2]))
    norm = length / up
    inverse = one / jnp.where(norm == 0, one, length)
    by = jnp.where(norm[0] * norm[1] < small, scale, one)
    dot = jnp.where(norm[0] * norm[1] < small, scaled[2], plain[2])
    # Each factor is (scale of the dot / scale of the norm) * 1 / length, of order 1.
    cosine = (dot * (up[0] / by * inverse[0])) * (up[1] / by * inverse[1])
    return Geometry(
        cosine=jnp.clip(cosine, -1, 1),
        reference_norm=norm[0],
        regularizer_norm=norm[1],
        unit=(up[0], inverse[0]),
    )


def plan(
    geo: Geometry, weight: Any, on_conflict: str, max_ratio: Any | None = None
) -> Plan:
    """Decides for each group what to keep and how far to push it out of conflict.

    Args:
      geo: how the two gradients stand to each other.
      weight: the scalar λ that multiplies the regularizer.
      on_conflict: one of ``RULES``.
      max_ratio: the scalar κ; caps ``|r'|`` at κ times the reference's norm.
    """
    dtype = geo.cosine.dtype
    weight = jnp.asarray(weight, dtype)
    opposed = jnp.minimum(geo.cosine, 0)  # NaN stays NaN
    if on_conflict == "project":
        # The rest has norm |r| * sine. Rounding leaves the square of the cosine unsure
        # by some eps, so the sine is rounded up: a cap must never come too late.
        sine = jnp.sqrt(1 - opposed**2 + 32 * jnp.finfo(dtype).eps)
        keep, along, length = jnp.ones_like(opposed), opposed, sine
    elif on_conflict == "drop":
        keep = 1 + jnp.sign(opposed)
        along, length = jnp.zeros_like(opposed), keep
    else:
        keep = jnp.ones_like(opposed)
        along, length = jnp.zeros_like(opposed), keep
    if max_ratio is not None:
        limit = jnp.asarray(max_ratio, dtype) * geo.reference_norm
        actual = weight * (geo.regularizer_norm * length)
        within = actual <= limit
        share = jnp.where(within, 1, limit / jnp.where(within, 1, actual))
        keep, along = share * keep, share * along
    # (r - r') / |r| = (1 - keep) * unit(r) + along * unit(reference)
    lost = 1 - keep
    square = lost**2 + 2 * lost * along * geo.cosine + along**2
    removed = jnp.sqrt(square)  # a sum of nothing negative
    return Plan(weight * keep, weight * along * geo.regularizer_norm, removed)


def remainders(
    plan_: Plan,
    geo: Geometry,
    groups: _groups.Groups,
    reference: list[jax.Array],
    regularizer: list[jax.Array],
) -> Iterator[jax.Array]:
    """``r'``, leaf by leaf, in the accumulator's type."""
    dtype = geo.cosine.dtype
    for g, r, k in zip(reference, regularizer, groups.of_leaf, strict=True):
        kept = _precision.times(_precision.accumulate_in(dtype, r), plan_.keep[k])
        unit = _precision.accumulate_in(dtype, g)
        for factor in geo.unit:
            unit = _precision.times(unit, factor[k])
        push = plan_.push[k]
        # Even an exact zero, subtracted, would turn -0.0 into 0.0.
        yield jnp.where(push == 0, kept, kept - _precision.times(unit, push))


def add(base: jax.Array, remainder: jax.Array, dtype: Any) -> jax.Array:
    """``d = u + r'`` for one leaf, summed in the accumulator's type, then ``dtype``."""
    return (base.astype(remainder.dtype) + remainder).astype(dtype)


def project_conflict(
    regularizer: Any,
    empirical: Any,
    *,
    granularity: _groups.Granularity = "global",
    axis_name: _axes.AxisName = None,
) -> Any:
    r"""Removes from the regularizer's gradient what opposes the empirical gradient.

    In every group, :math:`r' = r - \min(0, \langle g, r\rangle) / \|g\|^2 \cdot g`: the
    nearest point to :math:`r` with :math:`\langle g, r'\rangle \ge 0`. Where nothing is
    opposed, ``r`` comes back bit for bit.

    Args:
      regularizer: gradient of the penalty, a pytree of floating-point or complex
        arrays.
      empirical: gradient of the empirical loss, of the same structure and shapes.
      granularity: what is projected together: ``"global"``, ``"layer"``, ``"leaf"``, or
        labels; see :func:`dtnh_jax.dtnh`.
      axis_name: inside ``jax.shard_map``, the mesh axes over which arrays are sharded;
        see :func:`dtnh_jax.dtnh`.

    Returns:
      A pytree like ``regularizer``, in structure, shapes and dtypes.

    Raises:
      ValueError: if the trees differ in structure or shapes, labels do not fit, or
        ``axis_name`` is missing or names no axis that there is.
      TypeError: if a leaf is not floating-point or complex in both.

    Examples:
      >>> import jax.numpy as jnp
      >>> from dtnh_jax import project_conflict
      >>> g = {"w": jnp.array([1.0, 0.0])}
      >>> project_conflict({"w": jnp.array([-3.0, 2.0])}, g)["w"]
      Array([0., 2.], dtype=float32)
      >>> project_conflict({"w": jnp.array([3.0, 2.0])}, g)["w"]
      Array([3., 2.], dtype=float32)

    References:
      Wan et al., `Towards Making Deep Transfer Learning Never Hurt
      <https://arxiv.org/abs/1911.07489>`_, 2019
    """
    _checks.same_structure(empirical, regularizer)
    groups = _groups.divide(empirical, granularity)
    g = [jnp.asarray(x) for x in jax.tree.leaves(empirical)]
    leaves, treedef = jax.tree.flatten(regularizer)
    r = [jnp.asarray(x) for x in leaves]
    axes = _axes.find(axis_name, empirical, g, r)
    geo = geometry(g, r, groups, axes)
    rest = remainders(plan(geo, 1.0, "project"), geo, groups, g, r)
    return treedef.unflatten(x.astype(ri.dtype) for x, ri in zip(rest, r, strict=True))
