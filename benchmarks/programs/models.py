"""The networks whose training steps are timed, in a size that suits the machine."""

import dataclasses
from collections.abc import Callable

import jax
import optax
from flax import nnx

from benchmarks.programs.vit import VisionTransformer
from experiments.errors import unknown
from experiments.networks.resnet import ResNet

CLASSES = 100


@dataclasses.dataclass(frozen=True)
class Size:
    """Of one batch: images are ``[batch, pixels, pixels, 3]``."""

    pixels: int
    batch: int


@dataclasses.dataclass(frozen=True)
class Model:
    """A network, how it is usually optimized, and sizes for a CPU and for the rest.

    XLA's CPU backend takes tens of times as long for a 3x3 convolution of maps of 2x2
    as of 3x3, so that at 96 pixels a ResNet is faster there than at 64 or 32.
    """

    title: str
    build: Callable[[int], nnx.Module]
    optimizer: Callable[[], optax.GradientTransformation]
    cpu: Size
    accelerator: Size = Size(224, 64)

    def size(self) -> Size:
        return self.cpu if jax.default_backend() == "cpu" else self.accelerator


def _resnet(depth: int) -> Callable[[int], nnx.Module]:
    return lambda pixels: ResNet(depth, CLASSES, rngs=nnx.Rngs(0))


def _vit(pixels: int) -> nnx.Module:
    if pixels < 224:
        dims = {"patch": 4, "width": 192, "depth": 6, "heads": 3}
    else:
        dims = {"patch": 16, "width": 384, "depth": 12, "heads": 6}
    return VisionTransformer(pixels=pixels, classes=CLASSES, rngs=nnx.Rngs(0), **dims)


def _tiny(pixels: int) -> nnx.Module:
    dims = {"patch": 4, "width": 8, "depth": 1, "heads": 2}
    return VisionTransformer(pixels=pixels, classes=CLASSES, rngs=nnx.Rngs(0), **dims)


def _sgd() -> optax.GradientTransformation:
    return optax.sgd(1e-3, momentum=0.9)


def _adamw() -> optax.GradientTransformation:
    return optax.adamw(1e-4)


MODELS = {
    "resnet18": Model("ResNet-18", _resnet(18), _sgd, Size(96, 16)),
    "resnet50": Model("ResNet-50", _resnet(50), _sgd, Size(96, 8)),
    "vit": Model("ViT", _vit, _adamw, Size(32, 32)),
    "tiny": Model("tiny ViT", _tiny, _adamw, Size(8, 2)),
}


def find(name: str) -> Model:
    """The model of that name.

    Raises:
      InputError: if there is none.
    """
    if name not in MODELS:
        raise unknown("network", name, MODELS)
    return MODELS[name]
