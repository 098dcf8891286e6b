"""One update: a pure function of the state and a batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments import augment
from experiments.models import Params
from experiments.train import CROP, Reference, gradients
from experiments.trainer.task import Task


class State(NamedTuple):
    """All that changes in training; what a checkpoint holds.

    Attributes:
      step: updates so far, and so the loader's position too; a scalar int32.
      key: data of the random key, uint32 ``[2]``, from which each step derives its own.
      params: the parameters, ``models.Params``.
      opt_state: the optimizer's state, DTNH's in it.
    """

    step: jax.Array
    key: jax.Array
    params: Any
    opt_state: Any


class Measured(NamedTuple):
    """What a step has found.

    Attributes:
      loss: the empirical loss on the batch before the update, a scalar float32.
      conflict_rate: share of all steps so far and groups in which the two gradients
        were in conflict, a scalar float32; ``None`` without a regularizer.
    """

    loss: jax.Array
    conflict_rate: jax.Array | None


Advance = Callable[[State, Reference, jax.Array, jax.Array], tuple[State, Measured]]


def initial(task: Task, params: Params, reference: Reference) -> State:
    """The state before the first step."""
    key = jax.random.fold_in(jax.random.key(task.seed), CROP)
    opt_state = _transformation(task, reference).init(params)
    return State(jnp.int32(0), jax.random.key_data(key), params, opt_state)


def advance(
    task: Task, state: State, reference: Reference, images: jax.Array, labels: jax.Array
) -> tuple[State, Measured]:
    """One update on images ``[n, ...]`` and labels ``[n]``, all devices' together."""
    if task.recipe.crop is not None:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        images = augment.random_crops(key, images, task.recipe.crop)
    loss, grads = gradients(
        task.architecture, task.method, state.params, reference, images, labels
    )
    updates, opt_state = _transformation(task, reference).update(
        grads, state.opt_state, state.params
    )
    params = optax.apply_updates(state.params, updates)
    found = Measured(loss, _conflict_rate(opt_state))
    return State(state.step + 1, state.key, params, opt_state), found


def _transformation(task: Task, reference: Reference) -> Any:
    return task.method.transformation(
        reference.params,
        jnp.float32(task.weight),
        jnp.float32(task.recipe.learning_rate),
        task.recipe,
    )


def _conflict_rate(opt_state: Any) -> jax.Array | None:
    conflict = optax.tree.get(opt_state, "conflict", None)
    if conflict is None:
        return None
    states = optax.tree.get(opt_state, "DtnhState")
    return jnp.mean(conflict.count / states.count)
