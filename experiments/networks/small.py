"""A small network that is fast on a CPU when many are trained at once.

Under ``vmap`` over seeds, ``lax.conv`` becomes a grouped convolution, and inside
``lax.scan``, XLA's CPU backend runs convolutions on a slow path. Each makes them about
ten times slower. So the 3x3 convolution here gathers shifted copies of its input and
does one matrix product. There is no BatchNorm, because fine-tuning would change its
running statistics, which no regularizer sees.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.networks.interface import Gates, Params, gated


class ShiftedConv(nnx.Module):
    """A stride-1 convolution with zero padding ("SAME"), as shifts and one matmul.

    Equal to ``jax.lax.conv_general_dilated`` on NHWC images and HWIO kernels.
    """

    def __init__(self, features_in: int, features_out: int, size: int, rngs: nnx.Rngs):
        # Drawn as a matrix, because a vmapped 4-dimensional draw compiles for seconds.
        matrix = (size * size * features_in, features_out)
        kernel = nnx.initializers.he_normal()(rngs.params(), matrix)
        self.kernel = nnx.Param(kernel.reshape(size, size, features_in, features_out))
        self.bias = nnx.Param(jnp.zeros(features_out))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolves ``[n, height, width, features_in]``."""
        kernel, bias = self.kernel[...], self.bias[...]
        size, _, features_in, features_out = kernel.shape
        _, height, width, _ = x.shape
        before, after = (size - 1) // 2, size // 2
        padded = jnp.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))
        shifts = [
            padded[:, row : row + height, column : column + width]
            for row in range(size)
            for column in range(size)
        ]
        patches = jnp.concatenate(shifts, axis=-1)
        flat_kernel = kernel.reshape(size * size * features_in, features_out)
        return patches @ flat_kernel + jnp.broadcast_to(bias, (1, 1, 1, features_out))


def halve(x: jax.Array) -> jax.Array:
    """Max-pools ``[n, height, width, c]`` by 2 in height and width (both even)."""
    n, height, width, channels = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The size of a network. Hashable, so that it can be a static argument of a jit.

    Attributes:
      side: height and width of the input in pixels, a multiple of 4.
      channels: output channels of the three 3x3 convolutions.
      hidden: width of the dense layer between the convolutions and the head.
      classes: number of outputs of the head.
    """

    side: int = 8
    channels: tuple[int, int, int] = (16, 32, 32)
    hidden: int = 64
    classes: int = 10

    # Jitted, because compiling the initializers one by one takes seconds.
    @functools.partial(jax.jit, static_argnames="self")
    def init(self, key: jax.Array) -> Params:
        """New parameters, layer -> array name -> float32 array."""
        return nnx.to_pure_dict(nnx.state(Cnn(self, rngs=nnx.Rngs(key))))

    def build(self, params: Params) -> "Cnn":
        """The network with these parameters, traced or not, as made by ``init``."""
        graph = nnx.graphdef(nnx.eval_shape(lambda: Cnn(self, rngs=nnx.Rngs(0))))
        return nnx.merge(graph, nnx.State(params))


class Cnn(nnx.Module):
    """Three convolutions and a dense layer (the body), and a linear head."""

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs):
        one, two, three = architecture.channels
        flat = three * (architecture.side // 4) ** 2
        self.conv1 = ShiftedConv(1, one, 3, rngs)
        self.conv2 = ShiftedConv(one, two, 3, rngs)
        self.conv3 = ShiftedConv(two, three, 3, rngs)
        self.dense = nnx.Linear(flat, architecture.hidden, rngs=rngs)
        self.head = nnx.Linear(architecture.hidden, architecture.classes, rngs=rngs)

    def features(
        self, images: jax.Array, *, gates: Gates | None = None
    ) -> dict[str, jax.Array]:
        """The output of each layer of the body for ``[n, side, side, 1]``, by name.

        It is ``[n, height, width, channels]`` after pooling for a convolution, and
        ``[n, hidden]`` for the dense layer.
        """
        one = gated("conv1", halve(nnx.relu(self.conv1(images))), gates)
        two = gated("conv2", halve(nnx.relu(self.conv2(one))), gates)
        three = gated("conv3", nnx.relu(self.conv3(two)), gates)
        flat = three.reshape(images.shape[0], -1)
        dense = gated("dense", nnx.relu(self.dense(flat)), gates)
        return {"conv1": one, "conv2": two, "conv3": three, "dense": dense}
