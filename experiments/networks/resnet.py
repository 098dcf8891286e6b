"""ResNet-18, -50 and -101 in Flax NNX, equal to torchvision's up to rounding.

References:
  He et al., `Deep Residual Learning for Image Recognition
  <https://arxiv.org/abs/1512.03385>`_, 2016. The bottleneck is "v1.5", which halves
  the resolution in its 3x3 convolution, not in its first 1x1 convolution.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.errors import unknown
from experiments.networks.staged import StagedNetwork

# Mean and standard deviation of red, green and blue over ImageNet, in 0..1.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

# By depth: number of blocks per stage, and sizes of the convolutions in a block. If
# there are three (a "bottleneck"), the last has four times as many channels.
DEPTHS = {
    18: ((2, 2, 2, 2), (3, 3)),
    50: ((3, 4, 6, 3), (1, 3, 1)),
    101: ((3, 4, 23, 3), (1, 3, 1)),
}

# Momentum is the share of the old value in Flax, and of the new one in PyTorch (0.1).
_Norm = functools.partial(nnx.BatchNorm, momentum=0.9, epsilon=1e-5)
_KERNEL_INIT = nnx.initializers.variance_scaling(2, "fan_out", "normal")


def _conv(features_in: int, features_out: int, size: int, stride: int, rngs: nnx.Rngs):
    # Padding is equal on both sides, as in PyTorch and unlike "SAME".
    kernel = {"padding": size // 2, "use_bias": False, "kernel_init": _KERNEL_INIT}
    shape = features_in, features_out, (size, size)
    return nnx.Conv(*shape, strides=stride, **kernel, rngs=rngs)


class Block(nnx.Module):
    """Convolutions added to a shortcut. The first 3x3 one has the stride."""

    def __init__(
        self, widths: list[int], sizes: tuple[int, ...], stride: int, *, rngs: nnx.Rngs
    ):
        self.layers_count = len(sizes)
        for i, size in enumerate(sizes):
            step = stride if i == sizes.index(3) else 1
            conv = _conv(widths[i], widths[i + 1], size, step, rngs)
            setattr(self, f"conv{i + 1}", conv)
            setattr(self, f"bn{i + 1}", _Norm(widths[i + 1], rngs=rngs))
        self.fits = stride == 1 and widths[0] == widths[-1]
        if not self.fits:
            self.downsample_conv = _conv(widths[0], widths[-1], 1, stride, rngs)
            self.downsample_bn = _Norm(widths[-1], rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x
        for i in range(1, self.layers_count + 1):
            y = nnx.relu(y) if i > 1 else y
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
        shortcut = x if self.fits else self.downsample_bn(self.downsample_conv(x))
        return nnx.relu(y + shortcut)


class ResNet(StagedNetwork):
    """A residual network of four stages, at 1/4, 1/8, 1/16 and 1/32 of the input.

    Raises:
      InputError: if ``depth`` is not among ``DEPTHS``.
    """

    stages = ("stage1", "stage2", "stage3", "stage4", "pooled")
    stem_layers = ("conv1", "bn1")

    def __init__(self, depth: int, classes: int, *, rngs: nnx.Rngs):
        if depth not in DEPTHS:
            raise unknown("depth of a ResNet", str(depth), map(str, DEPTHS))
        lengths, sizes = DEPTHS[depth]
        self.conv1 = _conv(3, 64, 7, 2, rngs)
        self.bn1 = _Norm(64, rngs=rngs)
        features = 64
        for number, length in enumerate(lengths):
            width, stride = 64 * 2**number, 1 if number == 0 else 2
            widths = [width, width] if len(sizes) == 2 else [width, width, 4 * width]
            blocks = [Block([features, *widths], sizes, stride, rngs=rngs)]
            features = widths[-1]
            for _ in range(1, length):
                blocks.append(Block([features, *widths], sizes, 1, rngs=rngs))
            setattr(self, self.stages[number], nnx.Sequential(*blocks))
        self.head = nnx.Linear(features, classes, rngs=rngs)

    @staticmethod
    def torch_name(name: str) -> str:
        """The name in torchvision and timm: ``layer1.0.conv1.weight``, ``fc.bias``."""
        name = name.replace("stage", "layer").replace("head", "fc")
        name = name.replace("downsample_conv", "downsample.0")
        return name.replace("downsample_bn", "downsample.1")

    @staticmethod
    def normalize(images: jax.Array) -> jax.Array:
        """From 0..255 to float32 with zero mean and unit variance over ImageNet."""
        mean = 255 * jnp.asarray(MEAN).reshape(1, 1, 1, 3)
        std = 255 * jnp.asarray(STD).reshape(1, 1, 1, 3)
        return (images.astype(jnp.float32) - mean) / std

    def stem(self, images: jax.Array) -> jax.Array:
        """A quarter of the resolution, 64 channels."""
        x = nnx.relu(self.bn1(self.conv1(images)))
        # Padding with zeros equals PyTorch's -inf, because `x` is not negative.
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return nnx.max_pool(x, (3, 3), (2, 2))

    def pooled(self, x: jax.Array) -> jax.Array:
        """The mean over height and width."""
        return x.mean(axis=(1, 2))
