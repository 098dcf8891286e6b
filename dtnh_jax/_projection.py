"""The geometry of two gradients and an update, the projection and the caps.

In each group, ``r' = r - min(0, cos) |r| / |m| m`` is the nearest point to ``r`` that
does not oppose the reference ``m`` (Wan et al., 2019, equation 4).
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dtnh_jax import _axes, _checks, _groups, _precision, _sums, _trees
from dtnh_jax._axes import Axes
from dtnh_jax._groups import Groups, Slot
from dtnh_jax._pair import GradientPair
from dtnh_jax._sums import Arrays, divide

# What happens to the regularizer in a group with a conflict.
RULES = ("project", "drop", "ignore")


class Geometry(NamedTuple):
    """How regularizer, reference and update relate in each group, shape ``[K]``.

    A cosine is 0 if either vector is zero.
    """

    cosine: jax.Array  # of the angle between regularizer and reference
    reference: jax.Array  # norm
    regularizer: jax.Array  # norm
    update: jax.Array  # norm
    regularizer_update: Any = None  # cosine of the angle between these two
    reference_update: Any = None  # cosine of the angle between these two


class Plan(NamedTuple):
    """``d = scale * u + keep * r - push * m`` in each group, shape ``[K]``.

    The weight is included, and ``r'`` is ``(keep * r - push * m) / scale``.
    """

    keep: jax.Array
    push: jax.Array  # not positive
    length: jax.Array  # |r'|
    removed: jax.Array  # share of the weighted regularizer, |λr - r'| / |λr|
    scale: Any = None  # at most 1; None for 1


def geometry(
    reference: Arrays,
    regularizer: Arrays,
    update: Arrays,
    groups: Groups,
    axes: Axes,
    *,
    capped: bool = False,
) -> Geometry:
    """Computes norms and cosines in one collective.

    What only the caps need is computed only if ``capped``.
    """
    m, r, u = reference, regularizer, update
    dtype = _precision.accumulator([x for each in (m, r, u) for x in each])
    caps = [(r, u), (m, u)] if capped else []
    wanted = [(m, m), (r, r), (r, m), (u, u), *caps]
    # Computed once, even if the update is the reference itself.
    once = {frozenset(map(id, pair)): pair for pair in wanted}
    found = _sums.products(list(once.values()), groups, axes, dtype)
    dot = dict(zip(once, found, strict=True))
    lowest = _sums.floor(m, groups, axes, dtype)

    def norm(a: Arrays) -> jax.Array:
        return _sums.norms(dot[frozenset([id(a)])], lowest)

    def cosine(a: Arrays, b: Arrays) -> jax.Array:
        # Two divisions, because the product of the norms could underflow.
        product = dot[frozenset([id(a), id(b)])]
        ratio = divide(divide(product, norm(b)), norm(a))
        return jnp.clip(ratio, -1, 1)

    cosines = (cosine(r, u), cosine(m, u)) if capped else (None, None)
    return Geometry(cosine(r, m), norm(m), norm(r), norm(u), *cosines)


def plan(
    geo: Geometry,
    weight: Any,
    on_conflict: str,
    max_ratio: Any | None = None,
    judged: Any = True,
) -> Plan:
    """Decides how much to keep in each group, and how far to push it out of conflict.

    ``weight`` is the scalar λ, and ``on_conflict`` is one of ``RULES``. With
    ``max_ratio``, ``λr`` is shortened to ``|u|`` before the projection, ``r'`` to
    ``max_ratio * |u|`` after it, and ``d`` to ``|u|``. The regularizer is left out if
    the scalar ``judged`` is false.
    """
    weight = jnp.asarray(weight, geo.cosine.dtype)
    opposed = jnp.minimum(geo.cosine, 0)  # NaN stays NaN
    keep, along, sine = jnp.ones_like(opposed), jnp.zeros_like(opposed), 1.0
    if on_conflict == "drop":
        keep = sine = 1 + jnp.sign(opposed)
    elif on_conflict == "project":
        # The squared cosine has an error of a few eps. Round the sine up, so that the
        # cap is never exceeded.
        along = opposed
        sine = jnp.sqrt(1 - opposed**2 + 32 * jnp.finfo(opposed.dtype).eps)
    size = weight * geo.regularizer
    share = jnp.where(judged, jnp.ones_like(size), 0)
    if max_ratio is not None:
        # A regularizer that counts as zero has no length to cap: it is left out.
        share = jnp.where(geo.regularizer == 0, 0, share)
        share *= _shorten(size, geo.update)
        most = _precision.times(geo.update, jnp.asarray(max_ratio))
        share *= _shorten(share * size * sine, most)
    keep, along, length = share * keep, share * along, share * size * sine
    # (r - r') / |r| = (1 - keep) * unit(r) + along * unit(reference)
    lost = 1 - keep
    square = lost**2 + 2 * lost * along * geo.cosine + along**2
    removed = jnp.where(geo.regularizer == 0, 0, jnp.sqrt(square))
    push = divide(along * size, geo.reference)
    if max_ratio is None:
        return Plan(weight * keep, push, length, removed)
    # |u + r'|² / |u|² = 1 + 2 <u, r'> / |u|² + |r'|² / |u|²
    dot = keep * geo.regularizer_update - along * geo.reference_update
    own = jnp.maximum(keep**2 - along**2, 0)  # (|r'| / |λr|)², not rounded up
    ratio = divide(size, geo.update)
    square = 1 + 2 * ratio * dot + ratio**2 * own
    scale = jax.lax.rsqrt(jnp.maximum(square, 1))
    return Plan(scale * weight * keep, scale * push, length, removed, scale)


def _shorten(length: jax.Array, most: jax.Array) -> jax.Array:
    """The factor, at most 1, that shortens ``length`` to at most ``most``."""
    within = length <= most
    return jnp.where(within, 1, most / jnp.where(within, 1, length))


def combine(
    plan_: Plan,
    update: Arrays | None,
    reference: Arrays,
    regularizer: Arrays,
    groups: Groups,
    axes: Axes,
) -> Iterator[jax.Array]:
    """Yields ``d``, array by array, in the dtype to which ``u`` and ``r`` promote.

    Without an update, yields ``r'`` alone, in the accumulator's dtype.
    """
    vectors = [plan_.keep, plan_.push, plan_.scale][: 2 if plan_.scale is None else 3]
    both = jax.lax.optimization_barrier(jnp.stack(vectors))
    factors = dict(zip(groups.families, _sums.scalars(both, groups), strict=True))
    dtype = plan_.keep.dtype
    bases: Sequence[Any] = update or [None] * len(reference)
    arrays = zip(bases, reference, regularizer, groups.slots, axes.along, strict=True)
    for u, m, r, slot, names in arrays:
        keep, push, *scale = (
            _along(x, slot, m.shape, names) for x in factors[slot._replace(axis=None)]
        )
        kept = _precision.times(_precision.accumulate_in(dtype, r), keep)
        pushed = _precision.times(_precision.accumulate_in(dtype, m), push)
        # Subtracting even an exact zero can change the sign of a zero.
        rest = jnp.where(pushed == 0, kept, kept - pushed)
        if u is None:
            yield rest
            continue
        base = u.astype(rest.dtype)
        for factor in scale:
            base = _precision.times(base, factor)
        yield (base + rest).astype(_precision.promoted([u, r]))


def _along(part: jax.Array, slot: Slot, shape: Any, names: Any) -> jax.Array:
    """Shapes a family's scalars to broadcast against one of its arrays."""
    if slot.axis is None:
        return part
    length = shape[slot.axis]
    if length < part.shape[0]:  # a shard
        start = _axes.shard_start(names, length)
        part = jax.lax.dynamic_slice_in_dim(part, start, length)
    return part.reshape([length if i == slot.axis else 1 for i in range(len(shape))])


def project_conflict(  # noqa: D417
    pair: GradientPair,
    *,
    granularity: _groups.Granularity = "global",
    stacked: _groups.Stacked = None,
    axis_name: _axes.AxisName = None,
) -> Any:
    r"""Removes the component of the regularizer gradient that opposes the loss.

    In every group, :math:`r' = r - \min(0, \langle g, r\rangle) / \|g\|^2 \cdot g`, the
    nearest point to :math:`r` with :math:`\langle g, r'\rangle \ge 0` (`Wan et al.,
    2019 <https://arxiv.org/abs/1911.07489>`_). Without a conflict, :math:`r' = r`.

    Args:
      pair: the empirical gradient :math:`g` and the regularizer gradient :math:`r`,
        pytrees of floating-point or complex arrays with the same structure.
      granularity, stacked, axis_name: see :func:`dtnh`.

    Returns:
      A pytree with the structure, shapes and dtypes of ``pair.regularizer``.

    Raises:
      ValueError: if the trees do not match, or ``axis_name`` is missing or unknown.
      TypeError: if ``pair`` is not a :class:`GradientPair`, or has integer arrays.

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
    plan_ = plan(geometry(g, r, g, groups, axes), 1.0, "project")
    rest = combine(plan_, None, g, r, groups, axes)
    return layout.build(x.astype(y.dtype) for x, y in zip(rest, r, strict=True))
