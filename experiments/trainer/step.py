"""The trainer's step: a pure function of the state and a batch."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dtnh_jax import DtnhState
from experiments.networks import Params
from experiments.step import CROP, Reference, Training, training
from experiments.trainer.task import Task


class State(NamedTuple):
    """All that changes in training; what a checkpoint holds.

    Attributes:
      step: updates so far, and so the loader's position too; a scalar int32.
      key: data of the random key, uint32 ``[2]``, from which each step derives its own.
      params: the parameters, ``networks.Params``.
      opt_state: the optimizer's state, DTNH's in it.
    """

    step: jax.Array
    key: jax.Array
    params: Any
    opt_state: Any


class Measured(NamedTuple):
    """What a step has found; all of it small, and the same on every device.

    Attributes:
      loss: the empirical loss on the batch before the update, a scalar float32.
      penalty: the regularizer's value there, which λ multiplies, a scalar float32;
        ``None`` without a regularizer.
      learning_rate: of the update, a scalar float32.
      dtnh: DTNH's state after it, for ``conflict_report``, without the parts that are
        as large as the parameters; ``None`` without a regularizer.
    """

    loss: jax.Array
    penalty: jax.Array | None
    learning_rate: jax.Array
    dtnh: DtnhState | None


def initial(task: Task, params: Params, reference: Reference) -> State:
    """The state before the first step."""
    key = jax.random.fold_in(jax.random.key(task.seed), CROP)
    opt_state = _training(task, reference).init(params)
    return State(jnp.int32(0), jax.random.key_data(key), params, opt_state)


def advance(
    task: Task, state: State, reference: Reference, images: jax.Array, labels: jax.Array
) -> tuple[State, Measured]:
    """One update on images ``[n, ...]`` and labels ``[n]``, all devices' together."""
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    done = _training(task, reference).step(
        state.params, state.opt_state, images, labels, key
    )
    rate = _learning_rate(task, state.step)
    found = Measured(done.loss, done.penalty, rate, _report(done.opt_state))
    return State(state.step + 1, state.key, done.params, done.opt_state), found


def all_finite(state: State) -> jax.Array:
    """Whether there is neither NaN nor infinity in the state, a scalar bool."""
    inexact = (
        x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.inexact)
    )
    return jnp.stack([jnp.isfinite(x).all() for x in inexact]).all()


def _training(task: Task, reference: Reference) -> Training:
    return training(
        task.architecture,
        task.method,
        task.recipe,
        reference,
        jnp.float32(task.weight),
        jnp.float32(task.recipe.learning_rate),
    )


def _learning_rate(task: Task, step: jax.Array) -> jax.Array:
    rate: Any = task.recipe.schedule(jnp.float32(task.recipe.learning_rate))
    return rate if task.recipe.falls_at == 1 else rate(step)


def _report(opt_state: Any) -> DtnhState | None:
    state: Any = optax.tree.get(opt_state, "DtnhState", None)
    return None if state is None else state._replace(reference=None, inner=None)
