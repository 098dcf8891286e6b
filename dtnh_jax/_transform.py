"""The gradient transformation ``dtnh`` and its state."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dtnh_jax import _axes, _checks, _groups, _inner, _projection, _reference, _trees


class Conflict(NamedTuple):
    """The conflict in each group at the last step, as arrays ``[K]``.

    Attributes:
      cosine: cosine of the angle between the regularizer gradient and the reference,
        float32.
      removed: share of the regularizer that was removed, ``|λr - r'| / |λr|``, float32.
      pull: ``|r'| / |u|``, how hard the regularizer pulls compared with the optimizer,
        float32.
      count: number of steps so far with a conflict, that is, a cosine below 0, int32.
    """

    cosine: jax.Array
    removed: jax.Array
    pull: jax.Array
    count: jax.Array


class DtnhState(NamedTuple):
    """State of :func:`dtnh`. Read it with :func:`conflict_report`.

    Attributes:
      count: number of updates so far, a scalar int32.
      conflict: the :class:`Conflict` of the last update.
      group_names: group names in UTF-8, padded with zeros, uint8 ``[K, length]``.
      reference: moving average of the gradients or updates of the previous steps,
        shaped like the parameters, without bias correction; None without
        ``reference_decay``.
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
    reference: str = "gradient",
    reference_decay: float | jax.Array | None = None,
    reference_dtype: Any | None = None,
    max_ratio: float | jax.Array | None = None,
    inner: optax.GradientTransformation | None = None,
    stacked: _groups.Stacked = None,
    axis_name: _axes.AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adds the regularizer gradient, minus the component that opposes the loss.

    Let :math:`g` be the empirical gradient and :math:`r` the regularizer gradient. In
    every group of arrays,

    .. math::

      r' = \lambda\left(r - \frac{\min(0, \langle g, r\rangle)}{\|g\|^2}\,g\right),
      \qquad d = g + r'

    so that :math:`\langle g, d\rangle \ge \|g\|^2`: to first order, the empirical loss
    falls at least as fast as without the regularizer. This is the rule of `Wan et al.,
    2019 <https://arxiv.org/abs/1911.07489>`_. For optimizers that need no tuning, see
    :func:`dtnh_adamw` and :func:`dtnh_sgd`.

    The inequality does not survive a later transformation, such as Adam or momentum.
    Pass that transformation as ``inner`` instead:

    .. math:: d = u + r', \qquad u = \mathrm{inner}(g), \qquad
      \langle g, d\rangle \ge \langle g, u\rangle

    ``update`` takes the two gradients as a :class:`GradientPair`, as made by
    :func:`l2_sp` and :func:`mix_regularizers`, or the regularizer gradient separately
    as ``regularizer_grads=r``.

    Args:
      weight: regularizer weight λ, non-negative; a number or a schedule.
      granularity: which arrays form a group, to be tested and projected together.
        ``"global"``: all arrays. ``"layer"``: the arrays of one module, which share a
        parent key. ``"leaf"``: each array alone. Alternatively, a pytree of labels
        matched by path (a label applies to everything below it), or a function from the
        parameters, or gradients of their structure, to one.
      on_conflict: what to do if :math:`\langle g, r\rangle < 0`. ``"project"``: DTNH.
        ``"drop"``: leave the regularizer out. ``"ignore"``: do not project, which
        without ``reference_decay`` and ``max_ratio`` gives the plain sum.
      reference: what the regularizer must not oppose. ``"gradient"``: :math:`g`.
        ``"update"``: :math:`u`, for an ``inner`` that rescales coordinates, such as
        Adam, so that the parameters do not move along the gradients.
      reference_decay: if given, above 0 and below 1, replaces this step's reference, in
        the projection and the inequalities, by :math:`m`, the moving average of the
        references of the previous steps (as in `Hsieh et al., 2024
        <https://arxiv.org/abs/2402.02998>`_). It does not depend on this step's batch.
        The first step has no average and leaves the regularizer out.
      reference_dtype: dtype of the average of real arrays, by default at least float32.
        bfloat16 rounds small changes away: with a decay of 0.99 the average converges
        to about 0.8 of a constant gradient, with 0.999 to 0.3.
      max_ratio: κ, above 0 and at most 1, caps three lengths in each group:
        :math:`\|\lambda r\|` at :math:`\|u\|` before the projection,
        :math:`\|r'\|` at :math:`\kappa\|u\|` after it, and :math:`\|d\|` at
        :math:`\|u\|`, with :math:`u = g` without ``inner``. So the regularizer turns a
        step but never lengthens it, and learning rates keep their meaning. The
        inequalities then hold for :math:`u + r'`. Without ``reference_decay`` and
        ``inner``, gradient descent on a β-smooth loss descends at every step size up to
        :math:`2 / (\beta\sqrt{1 + \kappa^2})`, whatever the weight.
      inner: a transformation of the empirical gradient alone, such as
        ``optax.scale_by_adam()``. It must not negate the updates: the learning rate
        comes after ``dtnh``.
      stacked: which arrays hold many layers along an axis, as made by ``nnx.scan``: a
        pytree of axes, matched by path, or a function like ``granularity``. Each slice
        is its own group, named ``"blocks[3]"``, say. Not for ``"global"``.
      axis_name: the mesh axes over which arrays are sharded, needed only inside
        ``jax.shard_map``. A name, or a tuple of names; the type of each array says
        which of them apply to it. ``()`` if arrays are whole on every device. With
        ``check_vma=False``, names apply to all arrays: if only some are sharded, or a
        stacked array is, pass a pytree of ``PartitionSpec``, matched by path. Axes
        along which the gradients were averaged need not be named.

    Returns:
      A transformation with a :class:`DtnhState`. Its updates have the structure of the
      empirical gradient and the dtype that :math:`u + r'` promotes to. Sums are taken
      in at least float32. A gradient counts as zero in a group if its root mean square
      there is below 3e-16 (1e-146 in float64). Non-finite inputs, and norms above 1e19,
      give non-finite updates.

    Raises:
      ValueError: if an argument is out of range; from ``init``, if ``inner`` negates
        updates, as ``optax.adam(lr)`` does, or an entry of a tree matches nothing; from
        ``update``, if gradients do not match, or ``axis_name`` is missing or unknown.
      TypeError: if an argument has the wrong type; from ``update``, if given a single
        gradient or integer arrays.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from dtnh_jax import GradientPair, dtnh
      >>> params = {"w": jnp.array([1.0, 1.0])}
      >>> tx = optax.chain(dtnh(weight=0.5), optax.sgd(0.1))
      >>> state = tx.init(params)
      >>> g, r = {"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([-4.0, 2.0])}
      >>> pair = GradientPair(empirical=g, regularizer=r)
      >>> updates, state = tx.update(pair, state, params)
      >>> updates["w"]
      Array([-0.1, -0.1], dtype=float32)
    """
    if not callable(weight):
        _checks.number("weight", weight, "non-negative and finite")
    _groups.check(granularity, stacked)
    _checks.one_of("on_conflict", on_conflict, _projection.RULES)
    _checks.one_of("reference", reference, ("gradient", "update"))
    if reference_decay is not None:
        _checks.number("reference_decay", reference_decay, "above 0 and below 1")
    if reference_dtype is not None:
        _checks.float_dtype("reference_dtype", reference_dtype)
        if reference_decay is None:
            raise ValueError("`reference_dtype` is for `reference_decay`, got None")
    if max_ratio is not None:
        _checks.number("max_ratio", max_ratio, "above 0 and at most 1")
    if inner is not None:
        _checks.transformation("inner", inner)
        inner = optax.with_extra_args_support(inner)
    _axes.check(axis_name)

    def divide(tree: Any) -> _groups.Groups:
        return _groups.divide(tree, granularity, stacked, axis_name)

    def init_fn(params: optax.Params) -> DtnhState:
        if inner is not None:
            _inner.refuse_negating(inner, params)
        groups = divide(params)
        _groups.warn_of_flat(params, granularity, groups)
        names, average = groups.names, None
        if reference_decay is not None:
            average = _reference.zeros_like(params, reference_dtype)
        return DtnhState(
            count=jnp.zeros((), jnp.int32),
            conflict=Conflict(
                *(jnp.zeros(len(names), jnp.float32) for _ in range(3)),
                count=jnp.zeros(len(names), jnp.int32),
            ),
            group_names=_groups.encode(names),
            reference=average,
            inner=None if inner is None else inner.init(params),
        )

    def update_fn(updates, state, params=None, *, regularizer_grads=None, **extra_args):
        pair = _checks.as_pair(updates, regularizer_grads)
        layout = _trees.Layout(pair.empirical)
        at_init = state.conflict.cosine.shape[-1]
        groups = _groups.of_update(divide, pair.empirical, params, at_init)
        base, inner_state = pair.empirical, state.inner
        if inner is not None:
            base, inner_state = inner.update(base, inner_state, params, **extra_args)

        g, r = (layout.arrays(half) for half in pair)
        u = g if inner is None else layout.arrays(base)
        judge = u if reference == "update" else g
        average = state.reference
        m = judge if average is None else layout.arrays(average)
        axes = _axes.find(axis_name, layout, [g, r, u], groups.axes)
        geo = _projection.geometry(m, r, u, groups, axes, capped=max_ratio is not None)
        lam = weight(state.count) if callable(weight) else weight
        # The first step has no average to test against.
        judged = True if average is None else state.count > 0
        plan = _projection.plan(geo, lam, on_conflict, max_ratio, judged)
        steps = list(_projection.combine(plan, u, m, r, groups, axes))
        if average is not None:
            # Only after the steps are computed, or XLA on a GPU copies the average.
            pairs = map(jax.lax.optimization_barrier, zip(steps, m, strict=True))
            m = [old for _, old in pairs]
            moved = _reference.moved(m, judge, reference_decay)
            average = layout.build(moved, average)

        nothing = plan.length == 0
        pull = plan.length / jnp.where(nothing, 1, geo.update)
        conflicts = state.conflict.count
        cosine, removed, pull = (
            x.astype(jnp.float32) for x in (geo.cosine, plan.removed, pull)
        )
        more = jnp.where(geo.cosine < 0, optax.safe_increment(conflicts), conflicts)
        return layout.build(steps), DtnhState(
            optax.safe_increment(state.count),
            Conflict(cosine, removed, pull, more),
            state.group_names,
            average,
            inner_state,
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
