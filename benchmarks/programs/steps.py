"""Whole training steps, with DTNH and with the same regularizer without DTNH."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from benchmarks.programs.networks import Inputs, Network, Outputs
from benchmarks.programs.rules import l2_sp_by_hand, naive_surgery
from benchmarks.timing import Function
from dtnh_jax import (
    dtnh,
    dtnh_adamw,
    dtnh_sgd,
    feature_distillation,
    l2,
    l2_sp,
    mix_regularizers,
    pair_value_and_grad,
)
from experiments.bloop import bloop

ALPHA = 0.01  # for L2-SP
WEIGHT = 1e-3  # for distillation
DECAY = 1e-4


class State(NamedTuple):
    """What a step updates and passes to the next."""

    params: Any
    statistics: Any
    opt_state: Any


# From parameters, statistics and inputs to the new statistics and the input of the
# transformation.
Gradients = Callable[[Any, Any, Inputs], tuple[Any, Any]]
# By name, functions that make a step. Each step updates its own parameters.
Steps = dict[str, Callable[[], Function]]


@dataclasses.dataclass(frozen=True)
class Step:
    """One way to train: ``step(state, inputs) -> (state,)``.

    The state of ``transformation`` includes the pretrained parameters it needs, so that
    these are arguments of the compiled step and not constants.
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


def l2_sp_steps(network: Network) -> Steps:
    """Plain fine-tuning, L2-SP by hand and by DTNH, the steady rule, and peers."""

    def loss(params, statistics, inputs):
        outputs, statistics = network.student(params, statistics, inputs.images)
        return _cross_entropy(outputs, inputs), statistics

    def plain(params, statistics, inputs):
        gradients, statistics = jax.grad(loss, has_aux=True)(params, statistics, inputs)
        return statistics, gradients

    # Pass the anchor, because the steps do not start at the pretrained parameters.
    anchor, _ = network.pretrained
    pull = l2_sp(ALPHA, pretrained=anchor, new={"head": True})
    base = _optimizer(network)
    steady = _steady(network)
    transformations = {
        "no regularizer": base,
        "weight decay": optax.chain(optax.add_decayed_weights(DECAY), base),
        "by hand": optax.chain(l2_sp_by_hand(ALPHA, anchor, "head"), base),
        "dtnh": optax.chain(pull, dtnh(), base),
        "steady rule": optax.chain(mix_regularizers(pull, l2()), steady),
        "naive surgery": optax.chain(pull, naive_surgery(), base),
        "Bloop": optax.chain(pull, bloop(), base),
    }
    steps = {name: Step(plain, tx) for name, tx in transformations.items()}
    return _functions(network, steps)


def distillation_steps(network: Network, *, teacher_in_step: bool = False) -> Steps:
    """Distillation of the last map: the joint loss, DTNH, and peers."""

    def losses(params, statistics, inputs):
        outputs, statistics = network.student(params, statistics, inputs.images)
        targets = inputs.targets
        if teacher_in_step:
            targets = network.teacher(inputs.pretrained, inputs.images)
        penalty = feature_distillation(
            {"last": outputs.last_map}, {"last": targets.last_map}
        )
        return (_cross_entropy(outputs, inputs), penalty), statistics

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

    base = _optimizer(network)
    steps = {
        "joint loss": Step(joint, base),
        "dtnh": Step(pair, optax.chain(dtnh(WEIGHT), base)),
        "steady rule": Step(pair, optax.chain(mix_regularizers(), _steady(network))),
        "naive surgery": Step(pair, optax.chain(naive_surgery(WEIGHT), base)),
        "Bloop": Step(pair, optax.chain(bloop(WEIGHT), base)),
    }
    return _functions(network, steps)


def _functions(network: Network, steps: Mapping[str, Step]) -> Steps:
    def make(step: Step) -> Function:
        return Function(step, (step.init(*network.moved()), network.inputs), donated=1)

    return {name: functools.partial(make, step) for name, step in steps.items()}


def _optimizer(network: Network) -> optax.GradientTransformation:
    return optax.adamw(1e-4) if network.adaptive else optax.sgd(1e-3, momentum=0.9)


def _steady(network: Network) -> optax.GradientTransformation:
    return dtnh_adamw(1e-4) if network.adaptive else dtnh_sgd(1e-3, momentum=0.9)


def _cross_entropy(outputs: Outputs, inputs: Inputs) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(
        outputs.logits, inputs.labels
    ).mean()
