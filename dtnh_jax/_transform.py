"""The gradient transformation ``dtnh`` and its state."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dtnh_jax import (
    _axes,
    _checks,
    _groups,
    _inner,
    _precision,
    _projection,
    _reference,
    _trees,
)
from dtnh_jax._reference import Reference


class Conflict(NamedTuple):
    """What the last step found in each group; float32 and int32 arrays ``[K]``.

    Attributes:
      cosine: of the angle between the regularizer gradient and the reference; below 0
        the two are in conflict.
      removed: share of the regularizer that was removed, ``|λr - r'| / |λr|``.
      pull: ``|r'| / |u|``, how hard the regularizer pulls compared with the optimizer.
      count: number of steps so far with a conflict.
    """

    cosine: jax.Array
    removed: jax.Array
    pull: jax.Array
    count: jax.Array


class DtnhState(NamedTuple):
    """State of :func:`dtnh`. Read it with :func:`conflict_report`.

    Attributes:
      count: number of updates so far, a scalar int32.
      conflict: what the last update found, a :class:`Conflict`.
      group_names: the groups' names as UTF-8 bytes padded with zeros, uint8 ``[K,
        length]``: an array, so that a restored or vmapped state still knows them.
      reference: a :class:`Reference`; None without ``reference_decay``.
      inner: state of ``inner``; None without it.
    """

    count: jax.typing.ArrayLike
    conflict: Conflict
    group_names: jax.Array
    reference: Any = None
    inner: Any = None


def dtnh(
    weight: optax.ScalarOrSchedule = 1.0,
    *,
    granularity: _groups.Granularity = "global",
    on_conflict: str = "project",
    reference_decay: float | jax.Array | None = None,
    reference_dtype: Any | None = None,
    max_ratio: float | jax.Array | None = None,
    inner: optax.GradientTransformation | None = None,
    stacked: _groups.Stacked = None,
    axis_name: _axes.AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adds the regularizer gradient without what opposes the loss gradient.

    With :math:`g` the empirical gradient and :math:`r` the regularizer gradient, in
    every group of arrays

    .. math::

      r' = \lambda\left(r - \frac{\min(0, \langle g, r\rangle)}{\|g\|^2}\,g\right),
      \qquad d = g + r'

    so that :math:`\langle g, d\rangle \ge \|g\|^2`: to first order the empirical loss
    falls at least as fast as without the regularizer. The defaults are this rule, the
    paper's. For one that needs no tuning see :func:`dtnh_adamw` and :func:`dtnh_sgd`.

    A transformation after it in the chain that rescales coordinates, as Adam does, or
    adds up steps, as momentum does, voids the inequality; as ``inner`` it does not:

    .. math:: d = u + r', \qquad u = \mathrm{inner}(g), \qquad
      \langle g, d\rangle \ge \langle g, u\rangle

    ``update`` accepts the two gradients as a :class:`GradientPair`; as the empirical
    gradient with the keyword argument ``regularizer_grads``; or from :func:`l2_sp`,
    :func:`l2` or :func:`mix_regularizers` before it in the chain.

    Args:
      weight: the regularizer's weight λ, not negative; a number or a schedule from the
        step count to a number.
      granularity: which arrays are judged and projected together. ``"global"``: all.
        ``"layer"``: the arrays of one module, that share a parent key. ``"leaf"``: each
        array alone. Or a pytree of labels, matched by path (a label holds for
        everything below it), or a function from the gradients to one.
      on_conflict: what happens where :math:`\langle g, r\rangle < 0`. ``"project"``:
        DTNH. ``"drop"``: the regularizer is left out. ``"ignore"``: nothing; that is
        the plain weighted sum.
      reference_decay: if given, the reference, against which conflict is judged and the
        projection made, is not :math:`g` but :math:`m`: the bias-corrected moving
        average, with this decay, above 0 and below 1, of the empirical gradients of the
        steps before this one. The inequalities then hold for :math:`m`, which does not
        depend on this step's batch. In the first step there is no reference, and the
        regularizer is left out.
      reference_dtype: dtype of the moving average; by default that of the gradients,
        float32 at least. In bfloat16 small changes are rounded away: with a decay of
        0.99 the average converges to about 0.8 of a constant gradient, with 0.999 to
        0.3.
      max_ratio: κ, caps :math:`\|r'\|` in each group at :math:`\kappa\|m\|\rho`, where
        :math:`m` is the reference and :math:`\rho` what ``inner`` makes of a gradient's
        length: :math:`\|u\|/\|g\|`, with ``reference_decay`` the ratio of their sums
        over the steps before; 1 without ``inner``. Up to 1, gradient descent on a
        β-smooth loss descends at every step size up to 1/β, whatever the weight. Where
        the reference is zero, so is :math:`r'`.
      inner: a gradient transformation for the empirical gradient alone, such as
        ``optax.scale_by_adam()``. It receives ``params`` and all extra arguments. It
        must not negate the updates: the learning rate follows ``dtnh``.
      stacked: arrays that hold many layers along an axis, as ``nnx.scan`` makes them: a
        pytree of axes, matched by path (an axis holds for everything below it; arrays
        that are not named are not stacked), or a function from the gradients to one.
        Each slice is a group of its own, ``"blocks[3]"`` in the report. Not for
        ``granularity="global"``.
      axis_name: needed inside ``jax.shard_map`` alone: the mesh axes over which arrays
        are sharded, so that sums extend over them, in one all-reduce. A name, or a
        tuple of names, of which each array's type says which apply to it; ``()`` where
        arrays are whole on every device. With ``check_vma=False`` names apply to all
        arrays: where only some are sharded, or a stacked array is, pass a pytree of
        ``PartitionSpec``, matched by path. An axis along which gradients are the same
        everywhere, as after an average over the batch, need not be named.

    Returns:
      A transformation with a :class:`DtnhState`, whose updates have the structure of
      the empirical gradient, None where it is None, and the dtype that :math:`u + r'`
      promotes to. Sums are taken in float32 at least. A gradient whose root mean square
      in a group is below 3e-16 counts as zero there (1e-146 in float64). Non-finite
      inputs, and norms above 1e19, give non-finite updates.

    Raises:
      ValueError: if an argument is out of range; from ``init``, if ``inner`` negates
        the updates, as ``optax.adam(lr)`` does, or an entry of a tree matches nothing;
        from ``update``, if the gradients do not match, one is given twice, or
        ``axis_name`` is missing or unknown.
      TypeError: from ``update``, for one gradient, or for arrays that are not
        floating-point or complex.

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> from dtnh_jax import GradientPair, dtnh
      >>> params = {"w": jnp.array([1.0, 1.0])}
      >>> tx = optax.chain(dtnh(weight=0.5), optax.sgd(0.1))
      >>> state = tx.init(params)
      >>> pair = GradientPair(
      ...     empirical={"w": jnp.array([1.0, 0.0])},
      ...     regularizer={"w": jnp.array([-4.0, 2.0])},
      ... )
      >>> updates, state = tx.update(pair, state, params)
      >>> updates["w"]
      Array([-0.1, -0.1], dtype=float32)

    References:
      Wan et al., `Towards Making Deep Transfer Learning Never Hurt
      <https://arxiv.org/abs/1911.07489>`_, 2019

      Hsieh et al., `Careful with that Scalpel: Improving Gradient Surgery with an EMA
      <https://arxiv.org/abs/2402.02998>`_, 2024, which judges against an average
    """
    if not callable(weight):
        _checks.not_negative("weight", weight)
    _groups.check(granularity, stacked)
    _checks.one_of("on_conflict", on_conflict, _projection.RULES)
    if reference_decay is not None:
        _checks.fraction("reference_decay", reference_decay)
    if max_ratio is not None:
        _checks.positive("max_ratio", max_ratio)
    if inner is not None:
        _checks.transformation("inner", inner)
        inner = optax.with_extra_args_support(inner)
    _axes.check(axis_name)

    def divide(tree: Any) -> _groups.Groups:
        return _groups.divide(tree, granularity, stacked, axis_name)

    def init_fn(params: optax.Params) -> DtnhState:
        if inner is not None:
            _inner.refuse_negating(inner, params)
        _groups.warn_of_flat(params, granularity, stacked)
        names = divide(params).names
        return DtnhState(
            count=jnp.zeros((), jnp.int32),
            conflict=Conflict(
                *(jnp.zeros(len(names), jnp.float32) for _ in range(3)),
                count=jnp.zeros(len(names), jnp.int32),
            ),
            group_names=_groups.encode(names),
            reference=(
                None
                if reference_decay is None
                else _reference.init(params, len(names), reference_dtype)
            ),
            inner=None if inner is None else inner.init(params),
        )

    def update_fn(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        regularizer_grads: optax.Updates | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, DtnhState]:
        pair = _checks.as_pair(updates, regularizer_grads)
        layout = _trees.Layout(pair.empirical)
        groups = _groups.of_update(
            divide, pair.empirical, params, state.conflict.cosine.shape[-1]
        )
        base, inner_state = pair.empirical, state.inner
        if inner is not None:
            base, inner_state = inner.update(base, inner_state, params, **extra_args)

        g, r = (layout.arrays(half) for half in pair)
        u = g if inner is None else layout.arrays(base)
        m = g if reference_decay is None else layout.arrays(state.reference.average)
        stacked_axes = [slot.axis for slot in groups.slots]
        axes = _axes.find(axis_name, layout, [g, r], stacked_axes)
        geo = _projection.geometry(m, r, [g, u], groups, axes)
        g_norm, u_norm = geo.others

        limit = None
        if max_ratio is not None:  # κ |m| ρ
            longer, lengths = 1.0, (u_norm, g_norm)
            if reference_decay is not None:
                longer = _reference.correction(reference_decay, state.count)
                lengths = state.reference.update, state.reference.empirical
            rho = 1.0 if inner is None else _projection.divide(*lengths)
            limit = geo.reference
            for factor in (max_ratio, longer, rho):
                limit = _precision.times(limit, jnp.asarray(factor))
        elif reference_decay is not None:  # left out in the first step
            limit = jnp.where(state.count == 0, 0, jnp.inf).astype(geo.cosine.dtype)
        lam = weight(state.count) if callable(weight) else weight
        plan = _projection.plan(geo, lam, on_conflict, limit)
        rest = _projection.remainders(plan, groups, axes, m, r)
        combined = layout.build(map(_projection.add, u, rest, r))
        conflict = Conflict(
            cosine=geo.cosine.astype(jnp.float32),
            removed=plan.removed.astype(jnp.float32),
            pull=_pull(plan.length, u_norm),
            count=jnp.where(
                geo.cosine < 0,
                optax.safe_increment(state.conflict.count),
                state.conflict.count,
            ),
        )
        reference = state.reference
        if reference_decay is not None:
            reference = Reference(
                _reference.update(reference, layout, g, reference_decay),
                reference.empirical + g_norm.astype(jnp.float32),
                reference.update + u_norm.astype(jnp.float32),
            )
        count = optax.safe_increment(state.count)
        return combined, DtnhState(
            count, conflict, state.group_names, reference, inner_state
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _pull(length: jax.Array, u_norm: jax.Array) -> jax.Array:
    """``length / u_norm``; 0 where nothing pulls, infinity where ``u`` is zero."""
    return jnp.where(length == 0, 0, length / u_norm).astype(jnp.float32)
