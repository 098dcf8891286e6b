"""Gradient accumulation: averages both gradients, then tests for conflict."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dtnh_jax import _checks, _precision, _reference
from dtnh_jax._pair import GradientPair
from dtnh_jax._skip import select


def multi_steps(
    tx: optax.GradientTransformation, every_k: int | Callable[[Any], Any]
) -> optax.GradientTransformationExtraArgs:
    """Averages both gradients over several micro-steps, then updates once.

    This is ``optax.MultiSteps`` for pairs: conflict is tested between the two means.
    The update equals that of one large batch if all micro-batches have the same size
    and the loss is a mean over the batch.

    Wrap the whole optimizer: ``multi_steps(optax.chain(dtnh(), ...), 4)``. If the
    optimizer takes plain gradients, as ``chain(l2_sp(), dtnh(), ...)`` does, use
    ``optax.MultiSteps`` instead.

    Args:
      tx: transformation of the means. Its state changes every ``every_k`` micro-steps.
      every_k: number of micro-steps per update, at least 1, or a schedule of it.

    Returns:
      A transformation whose updates are zero except on every ``every_k``-th micro-step.
      Its state is an ``optax.MultiStepsState``. ``acc_grads`` holds the running means,
      a :class:`GradientPair` in at least float32. ``tx`` receives the means in the
      dtype of the gradients, and every other argument from the last micro-step.

    Raises:
      ValueError: if ``every_k`` is below 1, or the two gradients do not match.
      TypeError: if ``tx`` is not a transformation, ``every_k`` is neither an integer
        nor a function, or ``update`` is given a single gradient.

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
    if not callable(every_k):
        _checks.integer("every_k", every_k)
    tx = optax.with_extra_args_support(tx)

    def init_fn(params: optax.Params) -> optax.MultiStepsState:
        return optax.MultiStepsState(
            mini_step=jnp.zeros((), jnp.int32),
            gradient_step=jnp.zeros((), jnp.int32),
            inner_opt_state=tx.init(params),
            acc_grads=GradientPair(*(_reference.zeros_like(params) for _ in range(2))),
            skip_state=(),
        )

    def update_fn(updates, state, params=None, *, regularizer_grads=None, **extra_args):
        if regularizer_grads is None and not isinstance(updates, GradientPair):
            raise TypeError(
                "multi_steps averages two gradients but got one: use "
                "optax.MultiSteps for an optimizer that takes plain gradients"
            )
        pair = _checks.as_pair(updates, regularizer_grads)

        def moved(x, m):
            if x is None:
                return m
            share = 1 / (state.mini_step + 1).astype(jnp.finfo(m.dtype).dtype)
            return m + _precision.times(jnp.asarray(x).astype(m.dtype) - m, share)

        def narrow(x, m):
            return None if x is None else m.astype(jnp.result_type(x))

        # None is a leaf here: it means no gradient, and leaves the mean unchanged.
        tree_map = functools.partial(jax.tree.map, is_leaf=lambda x: x is None)
        mean = tree_map(moved, pair, state.acc_grads)
        given = tree_map(narrow, pair, mean)
        if regularizer_grads is not None:
            extra_args["regularizer_grads"] = given.regularizer
            given = given.empirical
        final, inner = tx.update(given, state.inner_opt_state, params, **extra_args)

        steps = state.gradient_step
        k = every_k(steps) if callable(every_k) else jnp.int32(every_k)
        last = state.mini_step >= k - 1
        return select(last, final, optax.tree.zeros_like(final)), optax.MultiStepsState(
            mini_step=jnp.where(last, 0, state.mini_step + 1),
            gradient_step=jnp.where(last, optax.safe_increment(steps), steps),
            inner_opt_state=select(last, inner, state.inner_opt_state),
            acc_grads=select(last, optax.tree.zeros_like(mean), mean),
            skip_state=(),
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
