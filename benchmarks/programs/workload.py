"""One network and one batch, with the training steps compiled for them."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks.programs import models
from benchmarks.programs.models import CLASSES, Model, Size
from benchmarks.programs.network import Inputs, Network
from benchmarks.programs.steps import State, TrainStep
from benchmarks.timing import Program


@dataclasses.dataclass(frozen=True)
class Workload:
    """What all steps that are compared train, from the same start.

    Attributes:
      title: the network and the size of its batch, in words.
      network: with random weights.
      optimizer: how it is usually optimized.
      inputs: a batch of noise, with the teacher's outputs for it.
    """

    title: str
    network: Network
    optimizer: optax.GradientTransformation
    inputs: Inputs

    def start(self, step: TrainStep) -> State:
        """The state at parameters some way off the pretrained ones, as in fine-tuning.

        At the pretrained ones themselves L2-SP has no gradient, and nothing to project.
        """
        rng = np.random.default_rng(2)

        def moved(w):
            return w + jnp.asarray(0.01 * rng.standard_normal(w.shape), w.dtype)

        params, statistics = self.network.pretrained
        return step.init(jax.tree.map(moved, params), statistics)

    def programs(self, steps: Mapping[str, TrainStep]) -> dict[str, Program]:
        """The steps compiled; each goes on from its own parameters, donated."""
        return {
            name: Program(step, self.start(step), self.inputs, donated=1)
            for name, step in steps.items()
        }


def workload(name: str, size: Size | None = None) -> Workload:
    """The network of that name, for batches of that size or of the model's own.

    Raises:
      InputError: if there is no such network.
    """
    model = models.find(name)
    size = size or model.size()
    network = _network(model, size.pixels)
    return Workload(
        title=f"{model.title}, {size.pixels} px, batch {size.batch}",
        network=network,
        optimizer=model.optimizer(),
        inputs=_inputs(network, size),
    )


def _network(model: Model, pixels: int) -> Network:
    """Its random weights are drawn by NumPy: compiling an init takes long."""
    rng = np.random.default_rng(0)

    def draw(path, abstract):
        kind = path[-1]
        if kind in ("scale", "var"):
            return jnp.ones(abstract.shape, abstract.dtype)
        if kind != "kernel":
            return jnp.zeros(abstract.shape, abstract.dtype)
        std = np.sqrt(2 / np.prod(abstract.shape[:-1]))
        return jnp.asarray(std * rng.standard_normal(abstract.shape), abstract.dtype)

    graph, state = nnx.split(nnx.eval_shape(lambda: model.build(pixels)))
    flat = nnx.to_flat_state(state)
    drawn = [(path, x.replace(draw(path, x.get_value()))) for path, x in flat]
    return Network(nnx.merge(graph, nnx.from_flat_state(drawn)))


def _inputs(network: Network, size: Size) -> Inputs:
    rng = np.random.default_rng(1)
    shape = (size.batch, size.pixels, size.pixels, 3)
    images = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    labels = jnp.asarray(rng.integers(CLASSES, size=size.batch), jnp.int32)
    targets = jax.jit(network.teacher)(network.pretrained, images)
    return Inputs(images, labels, network.pretrained, targets)
