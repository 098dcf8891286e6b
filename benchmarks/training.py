"""Whole training steps: with DTNH, and the same regularizer by hand without it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from dtnh_jax import (
    Amortized,
    amortized_value_and_grad,
    dtnh,
    feature_distillation,
    l2_sp,
    logit_distillation,
    pair_value_and_grad,
)

ALPHA = 0.01  # of L2-SP
WEIGHT = 1e-3  # of distillation


class Outputs(NamedTuple):
    """Logits ``[n, classes]``, and feature maps ``[n, ..., channels]`` by name."""

    logits: jax.Array
    maps: dict[str, jax.Array]


class State(NamedTuple):
    """What a step changes, and gives back to the next."""

    params: Any
    statistics: Any
    opt_state: Any


class Inputs(NamedTuple):
    """What a step reads.

    Attributes:
      images: float32 ``[n, pixels, pixels, 3]``.
      labels: int32 ``[n]``.
      pretrained: parameters and BatchNorm statistics before fine-tuning.
      targets: the teacher's :class:`Outputs` for these images, computed beforehand.
    """

    images: jax.Array
    labels: jax.Array
    pretrained: tuple[Any, Any]
    targets: Outputs


class Network:
    """An NNX network as pure functions of nested dicts of arrays."""

    def __init__(self, model: Any):
        self.graph, params, statistics = nnx.split(model, nnx.Param, ...)
        self.pretrained = nnx.to_pure_dict(params), nnx.to_pure_dict(statistics)
        model.eval()
        self.frozen_graph = nnx.graphdef(model)

    def student(self, params: Any, statistics: Any, images: jax.Array):
        """Outputs in training mode, and the new BatchNorm statistics."""
        model = _merge(self.graph, params, statistics)
        outputs = _outputs(model, images)
        return outputs, nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Param)))

    def teacher(self, pretrained: tuple[Any, Any], images: jax.Array) -> Outputs:
        """Outputs in evaluation mode."""
        return _outputs(_merge(self.frozen_graph, *pretrained), images)


def _merge(graph: Any, params: Any, statistics: Any) -> Any:
    return nnx.merge(graph, nnx.State(params), nnx.State(statistics))


def _outputs(model: Any, images: jax.Array) -> Outputs:
    maps = model.features(images)
    pooled = maps.pop("pooled")
    return Outputs(model.head(pooled), maps)


Gradients = Callable[[Any, Any, Inputs], tuple[Any, Any]]


@dataclasses.dataclass(frozen=True)
class TrainStep:
    """One way to train: ``step(state, inputs) -> (state,)``.

    Attributes:
      gradients: from parameters, statistics and inputs to the new statistics and what
        the transformation takes.
      transformation: made from the pretrained parameters, which are thus arguments of
        the compiled step and not constants in it.
    """

    gradients: Gradients
    transformation: Callable[[Any], optax.GradientTransformation]

    def init(self, params: Any, pretrained: tuple[Any, Any]) -> State:
        transformation = self.transformation(pretrained[0])
        return State(params, pretrained[1], transformation.init(params))

    def __call__(self, state: State, inputs: Inputs) -> tuple[State]:
        params, statistics, opt_state = state
        statistics, gradients = self.gradients(params, statistics, inputs)
        transformation = self.transformation(inputs.pretrained[0])
        updates, opt_state = transformation.update(gradients, opt_state, params)
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

    def ours(granularity):
        def chain(pretrained):
            anchor = {**pretrained, "head": None}
            rule = dtnh(granularity=granularity)
            return optax.chain(l2_sp(anchor, alpha=ALPHA), rule, optimizer)

        return TrainStep(plain, chain)

    return {
        "no regularizer": TrainStep(plain, lambda pretrained: optimizer),
        "by hand": TrainStep(by_hand, lambda pretrained: optimizer),
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


PENALTIES = {"last map": last_map, "all maps": all_maps, "logits": logits}


def distillation_steps(
    network: Network,
    optimizer: optax.GradientTransformation,
    penalty: Callable[[Outputs, Outputs], jax.Array],
    *,
    teacher_in_step: bool,
) -> dict[str, TrainStep]:
    """Fine-tuning with distillation: one backward pass of the sum, and ours."""
    losses = _distillation_losses(network, penalty, teacher_in_step)

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
        return TrainStep(pair, lambda pretrained: optax.chain(rule, optimizer))

    return {
        "joint loss": TrainStep(joint, lambda pretrained: optimizer),
        "dtnh, global": ours("global"),
        "dtnh, layer": ours("layer"),
    }


@dataclasses.dataclass(frozen=True)
class AmortizedStep:
    """Fine-tuning with distillation and ``amortized_value_and_grad``.

    A step as :class:`TrainStep` is; ``opt_state`` holds the state of both.

    Attributes:
      amortized: what gives the gradients.
      way: which of its functions is called: ``"measure"``, ``"reuse"`` or
        ``"value_and_grad"``.
      optimizer: what takes the gradients.
      count: which step the first one is; the first of all measures.
    """

    amortized: Amortized
    way: str
    optimizer: optax.GradientTransformation
    count: int = 0

    def init(self, params: Any, pretrained: tuple[Any, Any]) -> State:
        weights = self.amortized.init()
        weights = weights._replace(count=jnp.full((), self.count, jnp.int32))
        return State(params, pretrained[1], (weights, self.optimizer.init(params)))

    def __call__(self, state: State, inputs: Inputs) -> tuple[State]:
        params, statistics, (weights, opt_state) = state
        differentiate = getattr(self.amortized, self.way)
        ((_, statistics), gradients), weights = differentiate(
            weights, params, statistics, inputs
        )
        updates, opt_state = self.optimizer.update(gradients, opt_state, params)
        params = optax.apply_updates(params, updates)
        return (State(params, statistics, (weights, opt_state)),)


def amortized_steps(
    network: Network,
    optimizer: optax.GradientTransformation,
    penalty: Callable[[Outputs, Outputs], jax.Array],
) -> dict[str, AmortizedStep]:
    """A step that measures, and those that use what another step measured."""
    losses = _distillation_losses(network, penalty, teacher_in_step=False)

    amortized = amortized_value_and_grad(
        losses, has_aux=True, refresh_every=2**30, weight=WEIGHT
    )
    return {
        "measuring": AmortizedStep(amortized, "measure", optimizer),
        "reusing": AmortizedStep(amortized, "reuse", optimizer),
        # From its second step on, and for good, the way that does not measure.
        "reusing, conditional": AmortizedStep(
            amortized, "value_and_grad", optimizer, count=1
        ),
    }


def _distillation_losses(
    network: Network,
    penalty: Callable[[Outputs, Outputs], jax.Array],
    teacher_in_step: bool,
) -> Callable[[Any, Any, Inputs], tuple[tuple[jax.Array, jax.Array], Any]]:
    def losses(params, statistics, inputs):
        outputs, statistics = network.student(params, statistics, inputs.images)
        targets = inputs.targets
        if teacher_in_step:
            targets = network.teacher(inputs.pretrained, inputs.images)
        values = _cross_entropy(outputs, inputs), penalty(outputs, targets)
        return values, statistics

    return losses


def _cross_entropy(outputs: Outputs, inputs: Inputs) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(
        outputs.logits, inputs.labels
    ).mean()
