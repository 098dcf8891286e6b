"""EfficientNet-Lite0 in Flax NNX: EfficientNet-B0 with ReLU6 and no squeeze-excitation.

Small enough to be fine-tuned on a CPU, and its ImageNet weights are in a package.

References:
  Tan and Le, `EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks
  <https://arxiv.org/abs/1905.11946>`_, 2019, table 1; Lite:
  https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.networks.depthwise import depthwise_conv
from experiments.networks.staged import StagedNetwork

_Norm = functools.partial(nnx.BatchNorm, momentum=0.99, epsilon=1e-3)
_KERNEL_INIT = nnx.initializers.variance_scaling(2, "fan_out", "normal")


class Stage(NamedTuple):
    """Blocks of one resolution and width.

    Attributes:
      blocks: how many; the first one changes resolution and width.
      size: height and width of the depthwise kernels.
      stride: of the first block.
      expansion: how many times more channels there are within a block.
      features: channels that come out.
    """

    blocks: int
    size: int
    stride: int
    expansion: int
    features: int


STAGES = (
    Stage(blocks=1, size=3, stride=1, expansion=1, features=16),
    Stage(blocks=2, size=3, stride=2, expansion=6, features=24),
    Stage(blocks=2, size=5, stride=2, expansion=6, features=40),
    Stage(blocks=3, size=3, stride=2, expansion=6, features=80),
    Stage(blocks=3, size=5, stride=1, expansion=6, features=112),
    Stage(blocks=4, size=5, stride=2, expansion=6, features=192),
    Stage(blocks=1, size=3, stride=1, expansion=6, features=320),
)


class PointwiseConv(nnx.Module):
    """A 1x1 convolution with a ``[1, 1, features_in, features_out]`` kernel.

    As a product of matrices it is fast on a CPU under ``vmap`` and ``scan`` as well,
    where XLA's convolutions are not.
    """

    def __init__(self, features_in: int, features_out: int, *, rngs: nnx.Rngs):
        kernel = _KERNEL_INIT(rngs.params(), (1, 1, features_in, features_out))
        self.kernel = nnx.Param(kernel)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.kernel[0, 0]


class DepthwiseConv(nnx.Module):
    """A convolution with a ``[size, size, 1, features]`` kernel, one for a channel."""

    def __init__(self, features: int, size: int, stride: int, *, rngs: nnx.Rngs):
        # Every output pixel is a sum over one channel: he_normal would count them all.
        initializer = nnx.initializers.normal((2 / size**2) ** 0.5)
        self.kernel = nnx.Param(initializer(rngs.params(), (size, size, 1, features)))
        self.stride = stride

    def __call__(self, x: jax.Array) -> jax.Array:
        return depthwise_conv(x, self.kernel[...], self.stride)


class MBConv(nnx.Module):
    """Expands, convolves depthwise, projects; with a shortcut where shapes allow."""

    def __init__(
        self,
        features_in: int,
        features_out: int,
        *,
        expansion: int,
        size: int,
        stride: int,
        rngs: nnx.Rngs,
    ):
        width = features_in * expansion
        self.expands = expansion > 1
        if self.expands:
            self.expand_conv = PointwiseConv(features_in, width, rngs=rngs)
            self.bn0 = _Norm(width, rngs=rngs)
        self.depthwise_conv = DepthwiseConv(width, size, stride, rngs=rngs)
        self.bn1 = _Norm(width, rngs=rngs)
        self.project_conv = PointwiseConv(width, features_out, rngs=rngs)
        self.bn2 = _Norm(features_out, rngs=rngs)
        self.has_shortcut = stride == 1 and features_in == features_out

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x
        if self.expands:
            y = nnx.relu6(self.bn0(self.expand_conv(y)))
        y = nnx.relu6(self.bn1(self.depthwise_conv(y)))
        y = self.bn2(self.project_conv(y))
        return x + y if self.has_shortcut else y


class EfficientNetLite0(StagedNetwork):
    """Seven stages, from 1/2 down to 1/32 of the input's resolution (224 in training).

    ``"pooled"`` is behind one more convolution, to 1,280 channels.
    """

    stages = (*(f"stage{n}" for n in range(1, len(STAGES) + 1)), "pooled")
    stem_layers = ("conv_stem", "bn0")

    def __init__(self, classes: int, *, rngs: nnx.Rngs):
        features = 32
        self.conv_stem = nnx.Conv(
            3,
            features,
            (3, 3),
            strides=2,
            padding="SAME",
            use_bias=False,
            kernel_init=_KERNEL_INIT,
            rngs=rngs,
        )
        self.bn0 = _Norm(features, rngs=rngs)
        for name, stage in zip(self.stages, STAGES, strict=False):
            blocks = []
            for position in range(stage.blocks):
                block = MBConv(
                    features,
                    stage.features,
                    expansion=stage.expansion,
                    size=stage.size,
                    stride=stage.stride if position == 0 else 1,
                    rngs=rngs,
                )
                blocks.append(block)
                features = stage.features
            setattr(self, name, nnx.Sequential(*blocks))
        self.conv_head = PointwiseConv(features, 1280, rngs=rngs)
        self.bn1 = _Norm(1280, rngs=rngs)
        self.head = nnx.Linear(1280, classes, rngs=rngs)

    @staticmethod
    def normalize(images: jax.Array) -> jax.Array:
        """From uint8 ``[n, height, width, 3]`` to float32 in about -1..1."""
        return (images.astype(jnp.float32) - 127) / 128

    def stem(self, images: jax.Array) -> jax.Array:
        """Half the resolution, 32 channels."""
        return nnx.relu6(self.bn0(self.conv_stem(images)))

    def pooled(self, x: jax.Array) -> jax.Array:
        """The last convolution, and the mean over height and width."""
        return nnx.relu6(self.bn1(self.conv_head(x))).mean(axis=(1, 2))
