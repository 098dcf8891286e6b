"""Whole training steps: with DTNH, and the same regularizer by hand without it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import optax

from benchmarks.programs.network import Inputs, Network, Outputs
from dtnh_jax import (
    dtnh,
    feature_distillation,
    l2_sp,
    logit_distillation,
    pair_value_and_grad,
)

ALPHA = 0.01  # of L2-SP
WEIGHT = 1e-3  # of distillation


class State(NamedTuple):
    """What a step changes, and gives back to the next."""

    params: Any
    statistics: Any
    opt_state: Any


class TrainStep(Protocol):
    """One way to train: ``step(state, inputs) -> (state,)``."""

    def init(self, params: Any, statistics: Any) -> State:
        """The state of the first step, at these parameters and BatchNorm statistics."""
        ...

    def __call__(self, state: State, inputs: Inputs) -> tuple[State]: ...


Gradients = Callable[[Any, Any, Inputs], tuple[Any, Any]]
Penalty = Callable[[Outputs, Outputs], jax.Array]


@dataclasses.dataclass(frozen=True)
class TransformStep:
    """A :class:`TrainStep` whose gradients go through an Optax transformation.

    Attributes:
      gradients: from parameters, statistics and inputs to the new statistics and what
        the transformation takes.
      transformation: its state holds all it needs of the pretrained parameters, which
        are thus arguments of the compiled step and not constants in it.
    """

    gradients: Gradients
    transformation: optax.GradientTransformation

    def init(self, params: Any, statistics: Any) -> State:
        return State(params, statistics, self.transformation.init(params))

    def __call__(self, state: State, inputs: Inputs) -> tuple[State]:
        params, statistics, opt_state = state
        statistics, gradients = self.gradients(params, statistics, inputs)
        updates, opt_state = self.transformation.update(gradients, opt_state, params)
        return (State(optax.apply_updates(params, updates), statistics, opt_state),)


def l2_sp_steps(
    network: Network, optimizer: optax.GradientTransformation
) -> dict[str, TrainStep]:
    """Fine-tuning with L2-SP, and without any regularizer."""

    def loss(params, statistics, inputs):
        outputs, statistics = network.student(params, statistics, inputs.images)
        return _cross_entropy(outputs, inputs), statistics

    def plain(params, statistics, inputs):
        gradients, statistics = jax.grad(loss, has_aux=True)(params, statistics, inputs)
        return statistics, gradients

    def by_hand(params, statistics, inputs):
        statistics, gradients = plain(params, statistics, inputs)

        def add(g, w, w0):
            return g + ALPHA * (w - w0)

        pretrained = inputs.pretrained[0]
        regularized = {
            name: g if name == "head" else jax.tree.map(add, g, w, pretrained[name])
            for (name, g), w in zip(gradients.items(), params.values(), strict=True)
        }
        return statistics, regularized

    # The anchor is given, as the steps do not start at the pretrained parameters.
    anchor, _ = network.pretrained
    pull = l2_sp(ALPHA, pretrained=anchor, new={"head": True})

    def ours(granularity):
        rule = dtnh(granularity=granularity)
        return TransformStep(plain, optax.chain(pull, rule, optimizer))

    return {
        "no regularizer": TransformStep(plain, optimizer),
        "by hand": TransformStep(by_hand, optimizer),
        "dtnh, global": ours("global"),
        "dtnh, layer": ours("layer"),
    }


def last_map(student: Outputs, teacher: Outputs) -> jax.Array:
    name = list(student.maps)[-1]
    return feature_distillation({name: student.maps[name]}, {name: teacher.maps[name]})


def all_maps(student: Outputs, teacher: Outputs) -> jax.Array:
    return feature_distillation(student.maps, teacher.maps)


def logits(student: Outputs, teacher: Outputs) -> jax.Array:
    return logit_distillation(student.logits, teacher.logits, temperature=2.0)


PENALTIES: dict[str, Penalty] = {
    "last map": last_map,
    "all maps": all_maps,
    "logits": logits,
}


def distillation_steps(
    network: Network,
    optimizer: optax.GradientTransformation,
    penalty: Penalty,
    *,
    teacher_in_step: bool,
) -> dict[str, TrainStep]:
    """Fine-tuning with distillation: one backward pass of the sum, and ours."""

    def losses(params, statistics, inputs):
        outputs, statistics = network.student(params, statistics, inputs.images)
        targets = inputs.targets
        if teacher_in_step:
            targets = network.teacher(inputs.pretrained, inputs.images)
        values = _cross_entropy(outputs, inputs), penalty(outputs, targets)
        return values, statistics

    def joint(params, statistics, inputs):
        def total(params):
            (loss, regularizer), new = losses(params, statistics, inputs)
            return loss + WEIGHT * regularizer, new

        gradients, statistics = jax.grad(total, has_aux=True)(params)
        return statistics, gradients

    def pair(params, statistics, inputs):
        differentiate = pair_value_and_grad(losses, has_aux=True)
        (_, statistics), gradients = differentiate(params, statistics, inputs)
        return statistics, gradients

    def ours(granularity):
        rule = dtnh(WEIGHT, granularity=granularity)
        return TransformStep(pair, optax.chain(rule, optimizer))

    return {
        "joint loss": TransformStep(joint, optimizer),
        "dtnh, global": ours("global"),
        "dtnh, layer": ours("layer"),
    }


def _cross_entropy(outputs: Outputs, inputs: Inputs) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(
        outputs.logits, inputs.labels
    ).mean()
