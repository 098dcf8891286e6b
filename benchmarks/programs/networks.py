"""The networks to time, as pure functions with a batch of noise."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.programs.vit import VisionTransformer
from experiments.networks.resnet import ResNet

CLASSES = 100


class Outputs(NamedTuple):
    """Logits ``[n, classes]``, and the last feature map ``[n, ..., channels]``."""

    logits: jax.Array
    last_map: jax.Array


class Inputs(NamedTuple):
    """The inputs of a step.

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


@dataclasses.dataclass(frozen=True)
class Size:
    """The size of a batch, whose images are ``[batch, pixels, pixels, 3]``."""

    pixels: int
    batch: int


def _vit(**dims: int) -> Callable[[int], nnx.Module]:
    def build(pixels):
        rngs = nnx.Rngs(0)
        return VisionTransformer(pixels=pixels, classes=CLASSES, rngs=rngs, **dims)

    return build


def _resnet(depth: int) -> Callable[[int], nnx.Module]:
    return lambda pixels: ResNet(depth, CLASSES, rngs=nnx.Rngs(0))


BUILD = {
    "ResNet-18": _resnet(18),
    "ResNet-50": _resnet(50),
    "ViT-B/16": _vit(patch=16, width=768, depth=12, heads=12),
    "small ViT": _vit(patch=4, width=192, depth=6, heads=3),
    "tiny ViT": _vit(patch=4, width=8, depth=1, heads=2),
}


class Network:
    """A network with random weights, and a batch for it.

    Attributes:
      title: the network and the size of its batch, as text.
      adaptive: whether it is usually trained with AdamW, not SGD with momentum.
      pretrained: parameters and BatchNorm statistics, nested dicts of arrays.
      inputs: a batch of noise, with the teacher's outputs for it.
    """

    def __init__(self, name: str, size: Size):
        self.title = f"{name}, {size.pixels} px, batch {size.batch}"
        self.adaptive = "ViT" in name
        model: Any = _drawn(lambda: BUILD[name](size.pixels))
        self._graph, params, statistics = nnx.split(model, nnx.Param, ...)
        self.pretrained = nnx.to_pure_dict(params), nnx.to_pure_dict(statistics)
        model.eval()
        self._frozen = nnx.graphdef(model)
        rng = np.random.default_rng(1)
        shape = (size.batch, size.pixels, size.pixels, 3)
        images = jnp.asarray(rng.standard_normal(shape), jnp.float32)
        labels = jnp.asarray(rng.integers(CLASSES, size=size.batch), jnp.int32)
        targets = jax.jit(self.teacher)(self.pretrained, images)
        self.inputs = Inputs(images, labels, self.pretrained, targets)

    def student(
        self, params: Any, statistics: Any, images: jax.Array
    ) -> tuple[Outputs, Any]:
        """Outputs in training mode, and the new BatchNorm statistics."""
        model = _merge(self._graph, params, statistics)
        outputs = _outputs(model, images)
        return outputs, nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Param)))

    def teacher(self, pretrained: tuple[Any, Any], images: jax.Array) -> Outputs:
        """Outputs in evaluation mode."""
        return _outputs(_merge(self._frozen, *pretrained), images)

    def moved(self) -> tuple[Any, Any]:
        """Parameters some distance from the pretrained ones, as in fine-tuning.

        At the pretrained ones, the gradient of L2-SP is zero and there is nothing to
        project.
        """
        rng = np.random.default_rng(2)
        params, statistics = self.pretrained

        def move(w):
            return w + jnp.asarray(0.01 * rng.standard_normal(w.shape), w.dtype)

        return jax.tree.map(move, params), statistics


def _merge(graph: Any, params: Any, statistics: Any) -> Any:
    return nnx.merge(graph, nnx.State(params), nnx.State(statistics))


def _outputs(model: Any, images: jax.Array) -> Outputs:
    maps = model.features(images)
    pooled = maps.pop("pooled")
    return Outputs(model.head(pooled), list(maps.values())[-1])


def _drawn(build: Callable[[], nnx.Module]) -> nnx.Module:
    """Fills in random kernels and ones by NumPy, because an init compiles slowly."""
    rng = np.random.default_rng(0)

    def draw(x):
        if x.ndim < 2:
            return jnp.ones(x.shape, x.dtype)
        std = np.sqrt(2 / np.prod(x.shape[:-1]))
        return jnp.asarray(std * rng.standard_normal(x.shape), x.dtype)

    graph, state = nnx.split(nnx.eval_shape(build))
    return nnx.merge(graph, jax.tree.map(draw, state))
