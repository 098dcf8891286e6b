"""Training steps with distillation and ``amortized_value_and_grad``."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax

from benchmarks.programs.network import Inputs, Network
from benchmarks.programs.steps import WEIGHT, Penalty, State, distillation_losses
from dtnh_jax import amortized_value_and_grad


@dataclasses.dataclass(frozen=True)
class AmortizedStep:
    """A ``TrainStep`` whose ``opt_state`` holds the weights, too.

    Attributes:
      differentiate: what gives the gradients, from weights, parameters, statistics and
        inputs.
      first_weights: makes the weights, with their count, of the first step.
      optimizer: what takes the gradients.
    """

    differentiate: Callable[..., Any]
    first_weights: Callable[[], Any]
    optimizer: optax.GradientTransformation

    def init(self, params: Any, pretrained: tuple[Any, Any]) -> State:
        opt_state = self.first_weights(), self.optimizer.init(params)
        return State(params, pretrained[1], opt_state)

    def __call__(self, state: State, inputs: Inputs) -> tuple[State]:
        params, statistics, (weights, opt_state) = state
        ((_, statistics), gradients), weights = self.differentiate(
            weights, params, statistics, inputs
        )
        updates, opt_state = self.optimizer.update(gradients, opt_state, params)
        params = optax.apply_updates(params, updates)
        return (State(params, statistics, (weights, opt_state)),)


def amortized_steps(
    network: Network, optimizer: optax.GradientTransformation, penalty: Penalty
) -> dict[str, AmortizedStep]:
    """A step that measures, and those that use what another step measured."""
    amortized = amortized_value_and_grad(
        distillation_losses(network, penalty, teacher_in_step=False),
        has_aux=True,
        refresh_every=2**30,
        weight=WEIGHT,
    )

    def second():
        """Of the second step: `value_and_grad` measures in the first step of all."""
        return amortized.init()._replace(count=jnp.ones((), jnp.int32))

    ways = {
        "measuring": (amortized.measure, amortized.init),
        "reusing": (amortized.reuse, amortized.init),
        "reusing, conditional": (amortized.value_and_grad, second),
    }
    return {name: AmortizedStep(*way, optimizer) for name, way in ways.items()}
