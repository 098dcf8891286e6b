"""The shapes of real networks' arrays."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from jax.typing import DTypeLike

Shapes = dict[str, tuple[int, ...]]


def resnet50() -> Shapes:
    """The 161 arrays of ResNet-50, 25.6 million numbers (He et al., 2016)."""
    shapes: Shapes = {
        "stem/conv": (7, 7, 3, 64),
        **_norm("stem", 64),
    }
    channels = 64
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(blocks):
            name = f"stage{stage}/block{block}"
            convs = [(1, channels, width), (3, width, width), (1, width, 4 * width)]
            if block == 0:
                convs.append((1, channels, 4 * width))
            for i, (size, into, out) in enumerate(convs):
                shapes[f"{name}/conv{i}"] = (size, size, into, out)
                shapes |= _norm(f"{name}/norm{i}", out)
            channels = 4 * width
    return {**shapes, "head/kernel": (2048, 1000), "head/bias": (1000,)}


def vit_b16() -> Shapes:
    """The 152 arrays of ViT-B/16 for 224 pixels and 1000 classes, 86.6 million numbers
    (Dosovitskiy et al., 2021)."""
    width = 768
    return {
        "patch/kernel": (16, 16, 3, width),
        "patch/bias": (width,),
        "class": (1, 1, width),
        "position": (1, 197, width),
        **_blocks(12, width),
        **_norm("norm", width),
        "head/kernel": (width, 1000),
        "head/bias": (1000,),
    }


def gpt2() -> Shapes:
    """The 148 arrays of the smallest GPT-2, 124.4 million numbers (Radford et al.,
    2019); the embedding is the head, too."""
    width = 768
    return {
        "token": (50257, width),
        "position": (1024, width),
        **_blocks(12, width),
        **_norm("norm", width),
    }


def equal(leaves: int, numbers: int) -> Shapes:
    """``leaves`` vectors of one length, about ``numbers`` numbers in all."""
    return {f"layer{i}/kernel": (max(1, numbers // leaves),) for i in range(leaves)}


def layers(arrays: int) -> Shapes:
    """Arrays of a convolutional network with bottlenecks, four to a layer: a kernel,
    a bias, and a norm's scale and bias."""
    shapes: Shapes = {}
    count = -(-arrays // 4)
    for i in range(count):
        width = 16 * 2 ** (4 * i // count)
        bottleneck = [(1, 4 * width, width), (3, width, width), (1, width, 4 * width)]
        size, into, out = bottleneck[i % 3]
        name = f"layer{i:03}"
        shapes[f"{name}/kernel"] = (size, size, into, out)
        shapes |= {f"{name}/{x}": (out,) for x in ("bias", "norm_scale", "norm_bias")}
    return dict(list(shapes.items())[:arrays])


def random(shapes: Shapes, seed: int, dtype: DTypeLike) -> dict[str, Any]:
    """Normally distributed numbers, in a dict a module, as a network has them."""
    # NumPy's: JAX would compile a program for every shape.
    rng = np.random.default_rng(seed)
    arrays = {
        name: jnp.asarray(rng.standard_normal(shape, np.float32), dtype)
        for name, shape in shapes.items()
    }
    return unflatten_dict(arrays, sep="/")


def size(shapes: Shapes) -> int:
    """How many numbers there are."""
    return sum(math.prod(shape) for shape in shapes.values())


def _blocks(depth: int, width: int) -> Shapes:
    """Transformer blocks with one array for query, key and value."""
    shapes: Shapes = {}
    dense = {
        "qkv": (width, 3 * width),
        "out": (width, width),
        "up": (width, 4 * width),
        "down": (4 * width, width),
    }
    for i in range(depth):
        shapes |= _norm(f"block{i}/norm0", width) | _norm(f"block{i}/norm1", width)
        for name, shape in dense.items():
            shapes[f"block{i}/{name}/kernel"] = shape
            shapes[f"block{i}/{name}/bias"] = shape[1:]
    return shapes


def _norm(name: str, features: int) -> Shapes:
    return {f"{name}/scale": (features,), f"{name}/bias": (features,)}
