"""A whole training step, lowered for a TPU on a CPU: what the steady rule adds to it.

Read in StableHLO, before the TPU's own compiler. There is nothing to run it on.
"""

import collections
import math
import re

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from jax import export

from dtnh_jax import dtnh_adamw, l2, l2_sp, mix_regularizers

pytestmark = pytest.mark.usefixtures("lenient_promotion")  # for Optax's Adam

OPERATION = re.compile(r'= "?stablehlo\.(\w+)')
SHAPE = re.compile(r"tensor<((?:\d+x)*)\w+>")
# What moves numbers without computing anything.
COPIES = {
    *("reshape", "transpose", "concatenate", "gather", "scatter", "pad", "slice"),
    *("dynamic_slice", "dynamic_update_slice", "convert", "custom_call", "reverse"),
}
COLLECTIVE = re.compile(
    r"all_reduce|all_gather|all_to_all|reduce_scatter|collective_permute"
)
# Numbers in the smallest array of the network; what a group has is less.
SMALLEST = 32


class Network(nnx.Module):
    """A convolution, a norm and a head."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 32, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(32, rngs=rngs)
        self.head = nnx.Linear(32, 48, rngs=rngs)

    def __call__(self, images):
        x = nnx.relu(self.norm(self.conv(images)))
        return self.head(x.mean(axis=(1, 2)))


def steady():
    return optax.chain(mix_regularizers(l2_sp(), l2()), dtnh_adamw(1e-3))


def exported(tx):
    """The text of a step, and how many arrays it takes and gives back.

    Forward and backward pass, BatchNorm statistics and optimizer.
    """
    model = Network(nnx.Rngs(0))
    graph, state = nnx.split((model, nnx.Optimizer(model, tx, wrt=nnx.Param)))
    leaves, treedef = jax.tree.flatten(state)

    def step(leaves, images, labels):
        model, optimizer = nnx.merge(graph, treedef.unflatten(leaves))

        def loss(model):
            losses = optax.softmax_cross_entropy_with_integer_labels(
                model(images), labels
            )
            return losses.mean()

        optimizer.update(model, nnx.grad(loss)(model))
        return jax.tree.leaves(nnx.state((model, optimizer)))

    batch = jnp.zeros((8, 16, 16, 3)), jnp.zeros(8, jnp.int32)
    jitted = jax.jit(step, donate_argnums=0, keep_unused=True)
    artefact = export.export(jitted, platforms=["tpu"])(leaves, *batch)
    assert artefact.platforms == ("tpu",)
    return artefact.mlir_module(), len(leaves)


def copies(text):
    """How often each operation that moves numbers handles arrays as a network has."""
    counts = collections.Counter()
    for line in text.splitlines():
        match = OPERATION.search(line)
        if match is None or match[1] not in COPIES:
            continue
        shapes = (x.split("x")[:-1] for x in SHAPE.findall(line))
        if any(math.prod(map(int, shape)) >= SMALLEST for shape in shapes):
            counts[match[1]] += 1
    return counts


def test_the_steady_rule_copies_no_array_and_waits_for_no_device():
    ours, arrays = exported(steady())
    plain, _ = exported(optax.adamw(1e-3))
    assert copies(ours) == copies(plain)
    assert not COLLECTIVE.search(ours)
    # Every array of the network and the optimizer is given up for its successor.
    assert len(re.findall(r"tf\.aliasing_output|jax\.buffer_donor", ours)) == arrays


def test_a_copy_would_be_seen():
    def step(x):
        return jnp.concatenate([x, x]).T.reshape(-1)

    args = (jax.ShapeDtypeStruct((8, 8), jnp.float32),)
    text = export.export(jax.jit(step), platforms=["tpu"])(*args).mlir_module()
    assert copies(text) == {"concatenate": 1, "transpose": 1, "reshape": 1}
