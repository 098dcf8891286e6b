"""EfficientNet-Lite0 in Flax NNX: EfficientNet-B0 with ReLU6 and no squeeze-excitation.

Small enough to fine-tune on a CPU. Its ImageNet weights come in a package.

References:
  Tan and Le, `EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks
  <https://arxiv.org/abs/1905.11946>`_, 2019, table 1; Lite:
  https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.networks.staged import StagedNetwork

_Norm = functools.partial(nnx.BatchNorm, momentum=0.99, epsilon=1e-3)
_KERNEL_INIT = nnx.initializers.variance_scaling(2, "fan_out", "normal")

# For each stage: number of blocks, size of the depthwise kernels, stride of the first
# block, expansion factor of the blocks, output channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class PointwiseConv(nnx.Module):
    """A 1x1 convolution as a matrix product, fast even under ``vmap`` and ``scan``."""

    def __init__(self, features_in: int, features_out: int, *, rngs: nnx.Rngs):
        kernel = _KERNEL_INIT(rngs.params(), (1, 1, features_in, features_out))
        self.kernel = nnx.Param(kernel)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.kernel[0, 0]


class DepthwiseConv(nnx.Module):
    """A convolution with one filter per channel, padded like TensorFlow's "SAME".

    Computed as a sum of shifted copies of the input, which XLA fuses into one loop. A
    grouped convolution takes 4 to 12 times as long on a CPU.
    """

    def __init__(self, features: int, size: int, stride: int, *, rngs: nnx.Rngs):
        # Every output sums over one channel; he_normal would count all of them.
        initializer = nnx.initializers.normal((2 / size**2) ** 0.5)
        self.kernel = nnx.Param(initializer(rngs.params(), (size, size, 1, features)))
        self.stride = stride

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, stride, sides = self.kernel[...], self.stride, x.shape[1:3]
        size = kernel.shape[0]
        pads = jax.lax.padtype_to_pads(sides, (size, size), (stride, stride), "SAME")
        padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
        # The extent of a shifted copy: one past the last pixel that it reads.
        height, width = ((side - 1) // stride * stride + 1 for side in sides)
        terms = (
            padded[:, row : row + height : stride, column : column + width : stride]
            * kernel[row, column].reshape(1, 1, 1, -1)
            for row in range(size)
            for column in range(size)
        )
        return sum(terms, start=jnp.zeros((), x.dtype))


class MBConv(nnx.Module):
    """Expands, convolves depthwise and projects; adds its input if the shapes match."""

    def __init__(self, features_in: int, stage: tuple, stride: int, *, rngs: nnx.Rngs):
        _, size, _, expansion, features_out = stage
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
        y = nnx.relu6(self.bn0(self.expand_conv(x))) if self.expands else x
        y = nnx.relu6(self.bn1(self.depthwise_conv(y)))
        y = self.bn2(self.project_conv(y))
        return x + y if self.has_shortcut else y


class EfficientNetLite0(StagedNetwork):
    """Seven stages, from 1/2 to 1/32 of the input's resolution (224 in pretraining)."""

    stages = (*(f"stage{n}" for n in range(1, len(STAGES) + 1)), "pooled")
    stem_layers = ("conv_stem", "bn0")

    def __init__(self, classes: int, *, rngs: nnx.Rngs):
        kernel = {"use_bias": False, "kernel_init": _KERNEL_INIT}
        self.conv_stem = nnx.Conv(3, 32, (3, 3), strides=2, **kernel, rngs=rngs)
        self.bn0 = _Norm(32, rngs=rngs)
        features = 32
        for name, stage in zip(self.stages, STAGES, strict=False):
            count, _, stride, _, features_out = stage
            blocks = [MBConv(features, stage, stride, rngs=rngs)]
            for _ in range(1, count):
                blocks.append(MBConv(features_out, stage, 1, rngs=rngs))
            setattr(self, name, nnx.Sequential(*blocks))
            features = features_out
        self.conv_head = PointwiseConv(features, 1280, rngs=rngs)
        self.bn1 = _Norm(1280, rngs=rngs)
        self.head = nnx.Linear(1280, classes, rngs=rngs)

    @staticmethod
    def torch_name(name: str) -> str:
        """The name in ``efficientnet_pytorch``: ``_blocks.3._expand_conv.weight``."""
        if not name.startswith("stage"):
            return "_fc." + name[5:] if name.startswith("head.") else "_" + name
        stage, block, rest = name.split(".", 2)
        # There, block numbers run on across stages.
        number = int(block) + sum(count for count, *_ in STAGES[: int(stage[-1]) - 1])
        return f"_blocks.{number}._{rest}"

    @staticmethod
    def normalize(images: jax.Array) -> jax.Array:
        """From 0..255 to float32 in about -1..1."""
        return (images.astype(jnp.float32) - 127) / 128

    def stem(self, images: jax.Array) -> jax.Array:
        """Half the resolution, 32 channels."""
        return nnx.relu6(self.bn0(self.conv_stem(images)))

    def pooled(self, x: jax.Array) -> jax.Array:
        """A convolution to 1,280 channels, and the mean over height and width."""
        return nnx.relu6(self.bn1(self.conv_head(x))).mean(axis=(1, 2))
