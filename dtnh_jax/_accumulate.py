"""Gradient accumulation that averages both gradients before conflict is judged."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dtnh_jax import _checks, _precision, _reference
from dtnh_jax._pair import GradientPair
from dtnh_jax._select import select


def multi_steps(
    tx: optax.GradientTransformation,
    every_k: int | Callable[[Any], Any],
) -> optax.GradientTransformationExtraArgs:
    """Averages both gradients over several micro-steps, then updates once.

    ``optax.MultiSteps`` for pairs. The projection of the means is not the mean of the
    projections, which ``chain(dtnh(), optax.MultiSteps(...))`` gives. The update equals
    that of one large batch where the micro-batches are of one size and the loss is a
    mean over the batch.

    Wrap the whole optimizer: ``multi_steps(optax.chain(dtnh(), ...), 4)``. An optimizer
    that takes plain gradients, as ``chain(l2_sp(), dtnh(), ...)`` does, needs
    ``optax.MultiSteps`` instead. To accumulate within one step, wrap the function that
    :func:`pair_value_and_grad` returns in ``optax.microbatching.microbatch``, with the
    accumulator ``MEAN``.

    Args:
      tx: what is applied to the means; its state changes every ``every_k`` micro-steps.
      every_k: number of micro-steps per update, at least 1; or a schedule from the
        number of updates so far to it.

    Returns:
      A transformation whose updates are zero except on every ``every_k``-th micro-step.
      Its state is an ``optax.MultiStepsState``, with the means so far in ``acc_grads``,
      a :class:`GradientPair` in float32 at least. ``tx`` receives the means in the
      dtype of the last gradients, with ``params`` and all extra arguments of the last
      micro-step, and in the call form, pair or keyword, of that step.

    Raises:
      ValueError: if ``every_k`` is below 1; from ``update``, if the two gradients
        differ in structure or shapes.
      TypeError: if ``tx`` is no transformation, or ``every_k`` no integer or function;
        from ``update``, for one gradient.

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
        return optax.MultiStepsState(
            mini_step=jnp.zeros((), jnp.int32),
            gradient_step=jnp.zeros((), jnp.int32),
            inner_opt_state=tx.init(params),
            acc_grads=GradientPair(*(_reference.zeros_like(params) for _ in range(2))),
            skip_state=(),
        )

    def update_fn(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        regularizer_grads: optax.Updates | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, optax.MultiStepsState]:
        if regularizer_grads is None and not isinstance(updates, GradientPair):
            raise TypeError(
                "multi_steps averages two gradients and was given one: pass a "
                "GradientPair or `regularizer_grads`, or, for an optimizer that takes "
                "plain gradients, use optax.MultiSteps"
            )
        pair = _checks.as_pair(updates, regularizer_grads)
        mean = _map(
            lambda x, m: m if x is None else _step_of_mean(m, x, state.mini_step),
            pair,
            state.acc_grads,
        )
        given = _map(
            lambda x, m: None if x is None else m.astype(jnp.result_type(x)), pair, mean
        )
        if regularizer_grads is not None:
            extra_args["regularizer_grads"] = given.regularizer
            given = given.empirical
        final, inner = tx.update(given, state.inner_opt_state, params, **extra_args)

        last = state.mini_step >= count_of(state.gradient_step) - 1
        return select(last, final, jax.tree.map(jnp.zeros_like, final)), (
            optax.MultiStepsState(
                mini_step=jnp.where(last, 0, state.mini_step + 1),
                gradient_step=jnp.where(
                    last, optax.safe_increment(state.gradient_step), state.gradient_step
                ),
                inner_opt_state=select(last, inner, state.inner_opt_state),
                acc_grads=select(last, jax.tree.map(jnp.zeros_like, mean), mean),
                skip_state=(),
            )
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _map(f: Callable[..., Any], gradients: Any, other: Any) -> Any:
    """``jax.tree.map``, in which ``f`` also gets a gradient that is None."""
    return jax.tree.map(f, gradients, other, is_leaf=lambda x: x is None)


def _constant(every_k: Any) -> Callable[[Any], Any]:
    """A schedule of one value, checked where it is known."""
    _checks.positive("every_k", every_k)
    if not jnp.issubdtype(jax.dtypes.result_type(every_k), jnp.integer):
        raise TypeError(f"`every_k` must be an integer or a schedule, got {every_k!r}")
    count = every_k if _checks.is_traced(every_k) else int(every_k)
    return lambda _: count


def _step_of_mean(mean: jax.Array, new: Any, count: jax.Array) -> jax.Array:
    """The mean of ``count + 1`` numbers from that of ``count`` and one more."""
    wide = jnp.asarray(new).astype(mean.dtype)
    real = jnp.finfo(mean.dtype).dtype
    return mean + _precision.times(wide - mean, 1 / (count + 1).astype(real))
