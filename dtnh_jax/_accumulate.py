"""Gradient accumulation that averages both gradients before they are judged."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dtnh_jax import _average, _checks, _precision
from dtnh_jax._pair import GradientPair
from dtnh_jax._select import select


def multi_steps(
    tx: optax.GradientTransformation,
    every_k: int | Callable[[Any], Any],
    *,
    should_skip_update_fn: Callable[..., tuple[Any, Any]] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Takes the mean of the gradients of several micro-steps, then updates once.

    As ``optax.MultiSteps``, for two gradients: each half of the pair is averaged, and
    ``tx`` gets the pair of the means. The projection of the means is not the mean of
    the projections, which ``chain(dtnh(), optax.MultiSteps(...))`` would give, and
    with the keyword form ``optax.MultiSteps`` would take the regularizer of the last
    micro-step only. The update equals that of one large batch where the micro-batches
    are of one size and the loss is a mean over the batch.

    Put it round the whole optimizer: ``multi_steps(optax.chain(dtnh(), ...), 4)``.
    Whether both halves are accumulated, or the empirical one alone, is found out by
    ``init``, from what ``tx`` does when it is given one gradient: if it asks for a
    pair, as ``chain(dtnh(), ...)`` does, ``update`` takes pairs and the state holds two
    trees; if not, as with ``chain(l2_sp(...), dtnh(), ...)``, ``update`` takes plain
    gradients and the state holds one. So the state never changes its structure.

    Args:
      tx: what is applied to the means; every ``every_k`` micro-steps its state moves.
      every_k: number of micro-steps an update, at least 1; or a schedule from the
        number of updates so far to it.
      should_skip_update_fn: called as ``(gradients, updates_so_far, params)``, with the
        pair where there is one, at each micro-step; returns a boolean scalar and a
        pytree to be stored in ``skip_state``. Where it is True, it is as if this
        micro-step had not been. ``optax.skip_not_finite`` looks at both halves.

    Returns:
      A transformation whose updates are zero but at every ``every_k``-th micro-step.
      Its state is an ``optax.MultiStepsState``, with the mean so far in ``acc_grads``,
      in float32 at least: a :class:`GradientPair`, or one tree. ``tx`` gets the
      means in the dtype of the last gradients, with ``params`` and all extra arguments
      of the last micro-step, and in the call form, pair or keyword, of that step.

    Raises:
      ValueError: if ``every_k`` is below 1; from ``update``, if the two gradients
        differ in structure or shapes, or ``should_skip_update_fn`` returns no boolean.
      TypeError: if ``tx`` is no transformation, or ``every_k`` no integer or function;
        from ``update``, for one gradient where ``tx`` takes pairs, or a pair where it
        does not.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from dtnh_jax import GradientPair, dtnh, multi_steps
      >>> params = {"w": jnp.zeros(2)}
      >>> tx = multi_steps(optax.chain(dtnh(), optax.sgd(1.0)), every_k=2)
      >>> state = tx.init(params)
      >>> for g, r in [([2.0, 0.0], [-1.0, 1.0]), ([0.0, 0.0], [-1.0, 3.0])]:
      ...     pair = GradientPair({"w": jnp.array(g)}, {"w": jnp.array(r)})
      ...     updates, state = tx.update(pair, state, params)
      ...     print(updates["w"])
      [0. 0.]
      [-1. -2.]
    """
    _checks.transformation("tx", tx)
    count_of = every_k if callable(every_k) else _constant(every_k)
    tx = optax.with_extra_args_support(tx)

    def init_fn(params: optax.Params) -> optax.MultiStepsState:
        inner = tx.init(params)
        paired = _asks_for_a_pair(tx, inner, params)
        count = jnp.zeros((), jnp.int32)
        skip_state = ()
        if should_skip_update_fn is not None:
            zeros = jax.tree.map(jnp.zeros_like, params)
            zeros = GradientPair(zeros, zeros) if paired else zeros
            _, skip_state = should_skip_update_fn(zeros, count, params)
        halves = [_average.init(params, None) for _ in range(2 if paired else 1)]
        return optax.MultiStepsState(
            mini_step=count,
            gradient_step=jnp.zeros((), jnp.int32),
            inner_opt_state=inner,
            acc_grads=GradientPair(*halves) if paired else halves[0],
            skip_state=skip_state,
        )

    def update_fn(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        regularizer_grads: optax.Updates | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, optax.MultiStepsState]:
        new = updates
        if isinstance(state.acc_grads, GradientPair):
            new = _checks.as_pair(updates, regularizer_grads)
        elif regularizer_grads is not None or isinstance(updates, GradientPair):
            raise TypeError(
                "multi_steps was given two gradients, but its `tx` takes one: put "
                "dtnh() first in it, or, if it begins with l2_sp, which makes the "
                "pair, pass the empirical gradient alone"
            )
        skip, skip_state = jnp.zeros((), bool), ()
        if should_skip_update_fn is not None:
            skip, skip_state = should_skip_update_fn(new, state.gradient_step, params)
            _check_skip(skip)

        mean = jax.tree.map(
            lambda m, x: _step_of_mean(m, x, state.mini_step), state.acc_grads, new
        )
        given = jax.tree.map(lambda m, x: m.astype(jnp.result_type(x)), mean, new)
        if regularizer_grads is not None:
            extra_args["regularizer_grads"] = given.regularizer
            given = given.empirical
        final, inner = tx.update(given, state.inner_opt_state, params, **extra_args)

        last = state.mini_step >= count_of(state.gradient_step) - 1
        emit = ~skip & last
        zeros = jax.tree.map(jnp.zeros_like, mean)
        return select(emit, final, jax.tree.map(jnp.zeros_like, final)), (
            optax.MultiStepsState(
                mini_step=jnp.where(
                    skip, state.mini_step, jnp.where(last, 0, state.mini_step + 1)
                ),
                gradient_step=jnp.where(
                    emit, optax.safe_increment(state.gradient_step), state.gradient_step
                ),
                inner_opt_state=select(emit, inner, state.inner_opt_state),
                acc_grads=select(~skip, select(last, zeros, mean), state.acc_grads),
                skip_state=skip_state,
            )
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _constant(every_k: Any) -> Callable[[Any], Any]:
    """A schedule of one value, checked where it is known."""
    _checks.positive("every_k", every_k)
    if not jnp.issubdtype(jax.dtypes.result_type(every_k), jnp.integer):
        raise TypeError(f"`every_k` must be an integer or a schedule, got {every_k!r}")
    count = every_k if _checks.is_traced(every_k) else int(every_k)
    return lambda _: count


def _asks_for_a_pair(tx: Any, state: Any, params: optax.Params) -> bool:
    """Whether ``tx``, given one gradient, says that it needs two. Nothing is run."""
    try:
        jax.eval_shape(lambda g: tx.update(g, state, g), params)
    except _checks.OneGradientError:
        return True
    except Exception:
        # Anything else says nothing about pairs: an extra argument, say, that tx will
        # only get from `update`.
        return False
    return False


def _step_of_mean(mean: jax.Array, new: Any, count: jax.Array) -> jax.Array:
    """The mean of ``count + 1`` numbers from that of ``count`` and one more."""
    wide = jnp.asarray(new).astype(mean.dtype)
    real = jnp.finfo(mean.dtype).dtype
    return mean + _precision.times(wide - mean, 1 / (count + 1).astype(real))


def _check_skip(skip: Any) -> None:
    if jnp.shape(skip) != () or jax.dtypes.result_type(skip) != np.dtype(bool):
        raise ValueError(
            "`should_skip_update_fn` must return a boolean scalar and a pytree; the "
            f"first has dtype {jax.dtypes.result_type(skip)} and shape "
            f"{jnp.shape(skip)}"
        )
