"""ResNet-18, -50 and -101 in Flax NNX, equal to torchvision's to rounding.

Attributes have torchvision's names wherever they can, so that porting weights is hardly
more than a transposition.

References:
  He et al., `Deep Residual Learning for Image Recognition
  <https://arxiv.org/abs/1512.03385>`_, 2016; the bottleneck is "v1.5", which halves
  the resolution in its 3x3 convolution and not in its first 1x1.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.errors import unknown
from experiments.networks.staged import StagedNetwork

# Mean and standard deviation of ImageNet's red, green and blue, in 0..1.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

# Flax' momentum is the share of the old value, PyTorch's (0.1) that of the new one.
_Norm = functools.partial(nnx.BatchNorm, momentum=0.9, epsilon=1e-5)


def _conv(
    features_in: int, features_out: int, size: int, stride: int, *, rngs: nnx.Rngs
) -> nnx.Conv:
    return nnx.Conv(
        features_in,
        features_out,
        (size, size),
        strides=stride,
        # The same on both sides, as in PyTorch; "SAME" pads stride 2 on one side only.
        padding=size // 2,
        use_bias=False,
        kernel_init=nnx.initializers.variance_scaling(2, "fan_out", "normal"),
        rngs=rngs,
    )


def _shortcut(
    features_in: int, features_out: int, stride: int, *, rngs: nnx.Rngs
) -> nnx.Sequential | None:
    """What fits the input of a block to its output; ``None`` where it does already."""
    if stride == 1 and features_in == features_out:
        return None
    return nnx.Sequential(
        _conv(features_in, features_out, 1, stride, rngs=rngs),
        _Norm(features_out, rngs=rngs),
    )


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, features_in: int, width: int, stride: int, *, rngs: nnx.Rngs):
        self.conv1 = _conv(features_in, width, 3, stride, rngs=rngs)
        self.bn1 = _Norm(width, rngs=rngs)
        self.conv2 = _conv(width, width, 3, 1, rngs=rngs)
        self.bn2 = _Norm(width, rngs=rngs)
        self.downsample = _shortcut(features_in, width, stride, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return nnx.relu(y + shortcut)


class Bottleneck(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; gives 4 x ``width`` channels."""

    expansion = 4

    def __init__(self, features_in: int, width: int, stride: int, *, rngs: nnx.Rngs):
        features_out = width * self.expansion
        self.conv1 = _conv(features_in, width, 1, 1, rngs=rngs)
        self.bn1 = _Norm(width, rngs=rngs)
        self.conv2 = _conv(width, width, 3, stride, rngs=rngs)
        self.bn2 = _Norm(width, rngs=rngs)
        self.conv3 = _conv(width, features_out, 1, 1, rngs=rngs)
        self.bn3 = _Norm(features_out, rngs=rngs)
        self.downsample = _shortcut(features_in, features_out, stride, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = nnx.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return nnx.relu(y + shortcut)


# By depth: the block, and how many of them each stage has.
DEPTHS: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}


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
        block, lengths = DEPTHS[depth]
        features = 64
        self.conv1 = _conv(3, features, 7, 2, rngs=rngs)
        self.bn1 = _Norm(features, rngs=rngs)
        for number, length in enumerate(lengths):
            blocks = []
            for position in range(length):
                width = 64 * 2**number
                stride = 2 if number > 0 and position == 0 else 1
                blocks.append(block(features, width, stride, rngs=rngs))
                features = width * block.expansion
            setattr(self, self.stages[number], nnx.Sequential(*blocks))
        self.head = nnx.Linear(features, classes, rngs=rngs)

    @staticmethod
    def normalize(images: jax.Array) -> jax.Array:
        """From uint8 ``[n, height, width, 3]`` to float32, zero mean and unit variance
        over ImageNet."""
        mean = 255 * jnp.asarray(MEAN).reshape(1, 1, 1, 3)
        std = 255 * jnp.asarray(STD).reshape(1, 1, 1, 3)
        return (images.astype(jnp.float32) - mean) / std

    def stem(self, images: jax.Array) -> jax.Array:
        """A quarter of the resolution, 64 channels."""
        x = nnx.relu(self.bn1(self.conv1(images)))
        # As `x` is not negative, zeros at the border are what PyTorch's -inf amount to.
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return nnx.max_pool(x, (3, 3), (2, 2))

    def pooled(self, x: jax.Array) -> jax.Array:
        """The mean over height and width."""
        return x.mean(axis=(1, 2))
