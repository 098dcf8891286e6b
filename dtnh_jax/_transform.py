"""The gradient transformation ``dtnh`` and its state."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dtnh_jax import _average, _axes, _checks, _groups, _precision, _projection


class Conflict(NamedTuple):
    """What the last step found in each group; arrays of shape ``[K]``.

    Attributes:
      cosine: of the angle between the regularizer's gradient and the reference,
        float32; below 0 the two are in conflict.
      removed: share of the regularizer that was taken away, ``|λr - r'| / |λr|``,
        float32, 0 ... 1.
      count: in how many steps so far there was a conflict, int32.
    """

    cosine: jax.Array
    removed: jax.Array
    count: jax.Array


class DtnhState(NamedTuple):
    """State of :func:`dtnh`. Read it with :func:`conflict_report`.

    Attributes:
      count: number of updates so far, a scalar int32.
      conflict: what the last update found, a :class:`Conflict`.
      group_names: the groups' names as UTF-8 bytes padded with zeros, uint8 of shape
        ``[K, length]``. Names lie here as an array so that a state restored from a
        checkpoint, or mapped over by ``jax.vmap``, still knows them.
      reference: moving average of the empirical gradient, not yet corrected for its
        start at zero, shaped like the parameters; None without ``reference_decay``.
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
    axis_name: _axes.AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adds to the empirical gradient what the regularizer's does not take from it.

    With :math:`g` the gradient of the empirical loss and :math:`r` that of the
    regularizer, in every group of arrays

    .. math::

      r' = \lambda\left(r - \frac{\min(0, \langle g, r\rangle)}{\|g\|^2}\,g\right),
      \qquad d = g + r'

    so that :math:`\langle g, d\rangle \ge \|g\|^2`: to first order the empirical loss
    falls at least as fast as without the regularizer.

    Put it first in the chain, where :math:`g` is still a gradient. A transformation
    behind it that rescales coordinates, as Adam does, or adds up steps, as momentum
    does, voids the inequality; as ``inner`` it does not. Then

    .. math:: d = u + r', \qquad u = \mathrm{inner}(g), \qquad
      \langle g, d\rangle \ge \langle g, u\rangle

    with :math:`r'` as above, from the raw gradient: to first order the empirical loss
    falls at least as fast as under the optimizer without the regularizer.

    ``update`` takes the two gradients in one of three ways: a :class:`GradientPair` as
    the updates; the empirical gradient as the updates and the keyword argument
    ``regularizer_grads``; or through :func:`l2_sp` before it in the chain.

    Args:
      weight: the regularizer's weight λ, not negative; a number or a schedule from the
        step count to a number.
      granularity: which arrays are judged and projected together. ``"global"``: all.
        ``"layer"``: the arrays of one module, that is, whose paths agree but for the
        last key. ``"leaf"``: each array alone. Or labels as in ``optax.partition``: a
        pytree of labels of which the gradients' structure is an extension, or a
        function from the gradients to one.
      on_conflict: what happens to the regularizer in a group where
        :math:`\langle g, r\rangle < 0`. ``"project"``: DTNH. ``"drop"``: it is left
        out. ``"ignore"``: nothing; that is the plain weighted sum.
      reference_decay: if given, conflict is judged, and the projection made, against
        the moving average of the empirical gradient with this decay, above 0 and
        below 1, instead of against this step's gradient alone. It is corrected for its
        start at zero as Adam's is. The inequalities then hold for that average.
      reference_dtype: type in which the moving average is stored; by default that of
        the gradients, float32 at least. In bfloat16 steps of less than a part in 256
        are rounded away: with a decay of 0.99 the average rests at about 0.8 of a
        constant gradient, with 0.999 at 0.3.
      max_ratio: caps :math:`\|r'\|` in each group at ``max_ratio`` times the norm of
        what it is judged against: :math:`g`, or its moving average; with ``inner`` too
        the raw gradient, not :math:`u`. Up to 1, gradient descent on a β-smooth loss
        descends at every step size up to 1/β, whatever the weight. A group whose
        empirical gradient is zero then gets nothing of the regularizer: an old head,
        say, that is kept for distillation.
      inner: a gradient transformation for the empirical gradient alone, such as
        ``optax.scale_by_adam()`` or ``optax.trace(0.9)``. It gets ``params`` and all
        extra arguments. It must point uphill, as a gradient does: leave the learning
        rate and its minus sign to what follows dtnh.
      axis_name: needed inside ``jax.shard_map`` alone, where a device sees its shards:
        the mesh axes over which arrays are sharded, so that sums go on over them, in
        one all-reduce. A name, or a tuple of names, of which each array's type says
        which apply to it; ``()`` for none, where each device trains a network of its
        own. With ``check_vma=False`` types do not say: names then apply to all arrays,
        and where only some are sharded, pass a pytree of ``PartitionSpec``, or a prefix
        of one. An axis along which gradients are the same everywhere, as after an
        average over the batch, may be named, and need not.

    Returns:
      A transformation whose updates have the structure, shapes and dtypes of the
      empirical gradient, and whose state is a :class:`DtnhState`. Sums are taken in
      float32 at least. A NaN or an infinity in either gradient comes out as a NaN or
      an infinity.

    Raises:
      ValueError: if an argument is out of range; from ``init``, if ``inner`` turns the
        gradient round, as ``optax.adam(lr)`` does; from ``update``, if the gradients'
        structures or shapes differ, labels do not fit, a gradient comes twice, or
        ``axis_name`` is missing or names no axis that there is.
      TypeError: from ``update``, if it is given one gradient only, or arrays that are
        not floating-point or complex.

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
    """
    if not callable(weight):
        _checks.not_negative("weight", weight)
    _groups.check(granularity)
    _checks.one_of("on_conflict", on_conflict, _projection.RULES)
    if reference_decay is not None:
        _checks.fraction("reference_decay", reference_decay)
    if max_ratio is not None:
        _checks.positive("max_ratio", max_ratio)
    if inner is not None:
        _checks.transformation("inner", inner)
        inner = optax.with_extra_args_support(inner)
    _axes.check(axis_name)

    def init_fn(params: optax.Params) -> DtnhState:
        if inner is not None:
            _checks.uphill("inner", inner)
        names = _groups.divide(params, granularity).names
        return DtnhState(
            count=jnp.zeros((), jnp.int32),
            conflict=Conflict(
                cosine=jnp.zeros(len(names), jnp.float32),
                removed=jnp.zeros(len(names), jnp.float32),
                count=jnp.zeros(len(names), jnp.int32),
            ),
            group_names=_groups.encode(names),
            reference=(
                None
                if reference_decay is None
                else _average.init(params, reference_dtype)
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
        groups = _groups.divide(pair.empirical, granularity)
        _checks.same_groups(groups.names, state.conflict.cosine.shape[-1])
        count = optax.safe_increment(state.count)

        base, inner_state = pair.empirical, state.inner
        if inner is not None:
            base, inner_state = inner.update(base, inner_state, params, **extra_args)
        against, average = pair.empirical, state.reference
        if reference_decay is not None:
            against = average = _average.update(average, against, reference_decay)

        treedef = jax.tree.structure(pair.empirical)
        dtypes = [jax.dtypes.result_type(x) for x in jax.tree.leaves(pair.empirical)]
        u, g, r = (
            [jnp.asarray(x) for x in treedef.flatten_up_to(tree)]
            for tree in (base, against, pair.regularizer)
        )
        axes = _axes.find(axis_name, pair.empirical, g, r)
        geo = _projection.geometry(g, r, groups, axes, summed=True)
        if reference_decay is not None:
            longer = _average.correction(reference_decay, count)
            norm = _precision.times(geo.reference_norm, longer)
            geo = geo._replace(reference_norm=norm)
        lam = weight(state.count) if callable(weight) else weight
        plan = _projection.plan(geo, lam, on_conflict, max_ratio)
        rest = _projection.remainders(plan, geo, groups, g, r)
        combined = treedef.unflatten(map(_projection.add, u, rest, dtypes))
        conflict = Conflict(
            cosine=geo.cosine.astype(jnp.float32),
            removed=plan.removed.astype(jnp.float32),
            count=jnp.where(
                geo.cosine < 0,
                optax.safe_increment(state.conflict.count),
                state.conflict.count,
            ),
        )
        return combined, DtnhState(
            count, conflict, state.group_names, average, inner_state
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
