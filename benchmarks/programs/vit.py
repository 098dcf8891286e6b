"""A small vision transformer in Flax NNX (Dosovitskiy et al., 2021), for timing."""

import jax
from flax import nnx


class Block(nnx.Module):
    """Self-attention and a two-layer perceptron, each after a LayerNorm."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, width, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.down(nnx.gelu(self.up(self.norm2(tokens))))


class VisionTransformer(nnx.Module):
    """Patches to tokens, ``depth`` blocks, the mean over tokens, a linear ``head``.

    Images are float32 ``[n, pixels, pixels, 3]``, where ``pixels`` is a multiple of
    ``patch``. There are ``(pixels / patch)**2`` tokens with ``width`` features.
    """

    def __init__(
        self,
        *,
        pixels: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        classes: int,
        rngs: nnx.Rngs,
    ):
        self.embed = nnx.Conv(3, width, (patch, patch), strides=patch, rngs=rngs)
        tokens = (pixels // patch) ** 2
        self.position = nnx.Param(
            nnx.initializers.normal(0.02)(rngs.params(), (1, tokens, width))
        )
        self.blocks = nnx.List(Block(width, heads, rngs=rngs) for _ in range(depth))
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, classes, rngs=rngs)

    def features(self, images: jax.Array) -> dict[str, jax.Array]:
        """Each block's tokens, ``[n, tokens, width]``, and their ``pooled`` mean."""
        patches = self.embed(images)
        tokens = patches.reshape(patches.shape[0], -1, patches.shape[-1])
        tokens = tokens + self.position[...]
        maps = {}
        for number, block in enumerate(self.blocks):
            tokens = block(tokens)
            maps[f"block{number}"] = tokens
        maps["pooled"] = self.norm(tokens).mean(axis=1)
        return maps
