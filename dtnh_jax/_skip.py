"""Skips non-finite steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dtnh_jax import _axes, _checks, _groups, _trees
from dtnh_jax._pair import GradientPair


class NotFinite(NamedTuple):
    """Which leaves of each tree are not finite, as bool arrays ``[leaves]``."""

    empirical: jax.Array
    regularizer: jax.Array
    updates: jax.Array


class SkipState(NamedTuple):
    """State of :func:`skip_nonfinite`. Read it with :func:`skip_report`.

    Attributes:
      skipped: number of steps skipped so far, a scalar int32.
      in_a_row: number of consecutive non-finite steps so far, a scalar int32.
      last: a :class:`NotFinite` of the last non-finite step.
      leaf_names: the parameters' paths, encoded like ``DtnhState.group_names``.
      inner_state: state of the wrapped transformation.
    """

    skipped: jax.Array
    in_a_row: jax.Array
    last: NotFinite
    leaf_names: jax.Array
    inner_state: Any


def skip_nonfinite(
    tx: optax.GradientTransformation,
    max_consecutive: int | None = None,
    *,
    axis_name: _axes.AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Skips non-finite steps: those with a NaN or an infinity in either gradient.

    This is ``optax.apply_if_finite`` for two gradients. If either gradient, or the
    update that ``tx`` makes from them, is not finite, the updates are zero and the
    state of ``tx`` stays bitwise unchanged. :func:`skip_report` tells which leaves were
    not finite, and how many steps were skipped.

    Wrap the whole optimizer: ``skip_nonfinite(optax.chain(dtnh(), ...))``. Wrapped
    around :func:`multi_steps` or ``optax.MultiSteps``, it skips micro-steps; inside
    ``multi_steps``, it skips whole updates. Do not wrap it in ``optax.MultiSteps``,
    whose running mean keeps a NaN.

    Args:
      tx: the transformation to wrap. It runs in every step.
      max_consecutive: maximum number of consecutive steps to skip, at least 1. Later
        ones are applied unchanged, so that the NaN shows in the loss.
      axis_name: as in :func:`dtnh`, so that all devices skip together.

    Returns:
      A transformation with a :class:`SkipState`. It takes the same arguments as ``tx``.

    Raises:
      TypeError: if ``tx`` is not a transformation or ``max_consecutive`` not an
        integer.
      ValueError: if ``max_consecutive`` is below 1, the gradients and the parameters
        have different arrays, or ``axis_name`` is missing or unknown.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from dtnh_jax import GradientPair, dtnh, skip_nonfinite, skip_report
      >>> params = {"w": jnp.zeros(2)}
      >>> tx = skip_nonfinite(optax.chain(dtnh(), optax.sgd(1.0)))
      >>> state = tx.init(params)
      >>> for r in ([-1.0, 1.0], [jnp.nan, 1.0]):
      ...     pair = GradientPair({"w": jnp.array([2.0, 0.0])}, {"w": jnp.array(r)})
      ...     updates, state = tx.update(pair, state, params)
      ...     print(updates["w"])
      [-2. -1.]
      [0. 0.]
      >>> skip_report(state)["skipped"], skip_report(state)["regularizer"]
      (1, ['w'])
    """
    _checks.transformation("tx", tx)
    if max_consecutive is not None:
        _checks.integer("max_consecutive", max_consecutive)
    _axes.check(axis_name)
    tx = optax.with_extra_args_support(tx)

    def init_fn(params: optax.Params) -> SkipState:
        names = _groups.divide(params, "leaf").names
        # Each field needs its own buffer, or the state could not be donated.
        return SkipState(
            skipped=jnp.zeros((), jnp.int32),
            in_a_row=jnp.zeros((), jnp.int32),
            last=NotFinite(*(jnp.zeros(len(names), bool) for _ in range(3))),
            leaf_names=_groups.encode(names),
            inner_state=tx.init(params),
        )

    def update_fn(updates, state, params=None, **extra_args):
        made, inner = tx.update(updates, state.inner_state, params, **extra_args)
        g, r = updates, extra_args.get("regularizer_grads")
        if isinstance(updates, GradientPair):
            g, r = updates
        # The update of a maker, such as l2_sp, is itself a pair.
        halves = tuple(made) if isinstance(made, GradientPair) else (made,)
        keys = _trees.Layout(g if params is None else params).keys
        at_init = state.leaf_names.shape[-2]
        if len(keys) != at_init:
            raise ValueError(
                f"skip_nonfinite was given {len(keys)} arrays, but `init` got "
                f"{at_init}: pass `params` to `update` if a gradient is None"
            )
        flags = [_by_leaf(keys, *trees) for trees in ([g], [r], halves)]
        layout = _trees.Layout(g if len(halves) == 2 else made)
        arrays = [layout.arrays(x) for x in (g, *halves)]
        axes = _axes.find(axis_name, layout, arrays, [None] * len(layout))
        broken = _axes.total(axes, jnp.stack(flags).astype(jnp.int32)) > 0
        bad = jnp.any(broken)

        in_a_row = jnp.where(bad, optax.safe_increment(state.in_a_row), 0)
        skip = bad if max_consecutive is None else bad & (in_a_row <= max_consecutive)
        skipped = optax.safe_increment(state.skipped)
        return select(skip, optax.tree.zeros_like(made), made), SkipState(
            skipped=jnp.where(skip, skipped, state.skipped),
            in_a_row=in_a_row,
            last=select(bad, NotFinite(*broken), state.last),
            leaf_names=state.leaf_names,
            inner_state=select(~skip, inner, state.inner_state),
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def select(condition: jax.Array, new: Any, old: Any) -> Any:
    """``new`` if the condition holds, else ``old``, in the dtypes of ``old``.

    Not ``lax.cond``, which cannot contain the collectives of sharded gradients.
    """

    def where(x: Any, y: Any) -> jax.Array:
        y = jnp.asarray(y)
        return jnp.where(condition, jnp.asarray(x).astype(y.dtype), y)

    return jax.tree.map(where, new, old)


def _by_leaf(keys: list[_trees.Key], *trees: Any) -> jax.Array:
    """Whether the array at each key has a NaN or an infinity in any of the trees."""
    flags: dict[_trees.Key, Any] = dict.fromkeys(keys, False)
    for tree in trees:
        layout = _trees.Layout(tree)
        arrays = zip(layout.keys, layout.paths, layout.arrays(tree), strict=True)
        for key, path, x in arrays:
            if key not in flags:
                raise ValueError(
                    f"skip_nonfinite was given an array {_trees.at(path)}, but the "
                    "parameters have none there"
                )
            # The sum is NaN if any x is not finite. On a CPU this takes half the time
            # of jnp.all(jnp.isfinite(x)), and jnp.max can lose a NaN.
            flags[key] |= jnp.sum(x * 0) != 0
    return jnp.array(list(flags.values()), bool)
