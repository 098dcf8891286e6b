"""The array shapes of networks."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.traverse_util import unflatten_dict
from jax.typing import DTypeLike

from benchmarks.programs.networks import BUILD

Shapes = dict[str, tuple[int, ...]]

TINY: dict[str, Shapes] = {"tiny": {"layer/kernel": (8, 8), "layer/bias": (8,)}}


def networks() -> dict[str, Shapes]:
    """The networks, most useful first, since there may not be time for all."""
    names = ("ViT-B/16", "ResNet-50")
    return {"GPT-2": gpt2(), **{name: of_network(name) for name in names}}


def of_network(name: str) -> Shapes:
    """The parameters of one of the Flax networks."""
    state = nnx.state(nnx.eval_shape(lambda: BUILD[name](224)), nnx.Param)
    return {"/".join(map(str, path)): x.shape for path, x in nnx.to_flat_state(state)}


def gpt2() -> Shapes:
    """The 148 arrays of the smallest GPT-2 (Radford et al., 2019), 124.4 million
    parameters; the embedding is also the head."""
    width = 768
    shapes: Shapes = {"token": (50257, width), "position": (1024, width)}
    for block in (f"block{i}" for i in range(12)):
        for name, outputs in (("qkv", 3), ("out", 1), ("up", 4)):
            shapes[f"{block}/{name}/kernel"] = (width, outputs * width)
            shapes[f"{block}/{name}/bias"] = (outputs * width,)
        shapes |= {f"{block}/down/kernel": (4 * width, width)}
        shapes |= {f"{block}/down/bias": (width,)}
        shapes |= {
            f"{block}/{norm}/{x}": (width,)
            for norm in ("norm0", "norm1")
            for x in ("scale", "bias")
        }
    return {**shapes, "norm/scale": (width,), "norm/bias": (width,)}


def layers(arrays: int) -> Shapes:
    """Arrays of a convolutional network with bottlenecks, four per layer: a kernel, a
    bias, and the scale and bias of a norm."""
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


def equal(arrays: int, numbers: int) -> Shapes:
    """``arrays`` vectors of equal length, with about ``numbers`` elements in all."""
    return {f"layer{i}/kernel": (max(1, numbers // arrays),) for i in range(arrays)}


def stacked(layers: int, numbers: int) -> Shapes:
    """One array with ``layers`` matrices stacked along its first axis."""
    width = min(1000, numbers // layers)
    return {"blocks/kernel": (layers, numbers // layers // width, width)}


def random(shapes: Shapes, seed: int, dtype: DTypeLike) -> dict[str, Any]:
    """Normally distributed arrays, in one dict per module, as in a network."""
    # Drawn by NumPy, because JAX would compile a program for every shape.
    rng = np.random.default_rng(seed)
    arrays = {
        name: jnp.asarray(rng.standard_normal(shape, np.float32), dtype)
        for name, shape in shapes.items()
    }
    return unflatten_dict(arrays, sep="/")


def abstract(shapes: Shapes, dtype: DTypeLike) -> dict[str, Any]:
    """The same tree of shapes and dtypes only."""
    arrays = {name: jax.ShapeDtypeStruct(x, dtype) for name, x in shapes.items()}
    return unflatten_dict(arrays, sep="/")


def size(shapes: Shapes) -> int:
    """The total number of elements."""
    return sum(math.prod(shape) for shape in shapes.values())
