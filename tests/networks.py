"""Networks on which work and memory are measured: an MLP and narrow ResNets."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dtnh_jax import feature_distillation, logit_distillation

CLASSES = 10


@dataclass(frozen=True)
class Mlp:
    """Eight layers."""

    inputs: tuple = (256, 128)  # [batch, features]

    def init(self, seed):
        rng = np.random.default_rng(seed)
        sizes = [(128, 128)] * 7 + [(128, CLASSES)]
        return [(_normal(rng, s[0], s), jnp.zeros((1, s[1]))) for s in sizes]

    def apply(self, params, x):
        features = []
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
            features.append(x)
        w, b = params[-1]
        return x @ w + b, features


@dataclass(frozen=True)
class ResNet:
    """Four stages of blocks of two convolutions, with batch normalisation."""

    inputs: tuple = (4, 16, 16, 3)  # [batch, height, width, channels]
    widths: tuple = (8, 16, 32, 64)
    blocks: int = 2  # a stage; 2 makes a ResNet-18, 1 a ResNet-10

    def init(self, seed):
        rng = np.random.default_rng(seed)
        channels = self.widths[0]
        params = {"stem": _conv_bn(rng, 3, 3, channels), "blocks": []}
        for width in self.widths:
            for _ in range(self.blocks):
                block = {"a": _conv_bn(rng, 3, channels, width)}
                block["b"] = _conv_bn(rng, 3, width, width)
                if channels != width:
                    block["skip"] = _conv_bn(rng, 1, channels, width)
                params["blocks"].append(block)
                channels = width
        params["head"] = _normal(rng, channels, (channels, CLASSES))
        return params

    def apply(self, params, x):
        x, features = jax.nn.relu(_normed_conv(params["stem"], x)), []
        for block in params["blocks"]:
            stride = 2 if "skip" in block else 1
            y = jax.nn.relu(_normed_conv(block["a"], x, stride))
            y = _normed_conv(block["b"], y)
            if "skip" in block:
                x = _normed_conv(block["skip"], x, stride)
            x = jax.nn.relu(x + y)
            features.append(x)
        return x.mean((1, 2)) @ params["head"], features


def _normal(rng, fan_in, shape):
    return jnp.asarray(rng.normal(0, (2 / fan_in) ** 0.5, shape), jnp.float32)


def _conv_bn(rng, size, channels, width):
    kernel = _normal(rng, size * size * channels, (size, size, channels, width))
    one = jnp.ones((1, 1, 1, width))
    return {"kernel": kernel, "scale": one, "bias": 0 * one}


def _normed_conv(params, x, stride=1):
    layout = ("NHWC", "HWIO", "NHWC")
    x = jax.lax.conv_general_dilated(
        x, params["kernel"], (stride, stride), "SAME", dimension_numbers=layout
    )
    x = x - x.mean((0, 1, 2), keepdims=True)
    variance = (x**2).mean((0, 1, 2), keepdims=True)
    return x * jax.lax.rsqrt(variance + 1e-5) * params["scale"] + params["bias"]


def losses(network, penalty):
    """A function of student's parameters, inputs, labels and the teacher's outputs.

    ``penalty`` is "logits", "features", or the number of the one feature map that the
    penalty is about.
    """

    def fun(params, x, labels, teacher):
        logits, features = network.apply(params, x)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        if penalty == "logits":
            return loss, logit_distillation(logits, teacher[0], 2.0)
        if penalty == "features":
            return loss, feature_distillation(features, teacher[1])
        return loss, feature_distillation(features[penalty], teacher[1][penalty])

    return fun


@functools.cache
def arguments(network):
    """Parameters, inputs, labels, and what a teacher makes of the inputs."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=network.inputs), jnp.float32)
    labels = jnp.asarray(rng.integers(0, CLASSES, len(x)))
    teacher = jax.jit(network.apply)(network.init(1), x)
    return network.init(0), x, labels, teacher
