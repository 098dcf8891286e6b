"""Updates lowered on a CPU for GPUs and TPUs: they export, and copy no array there.

Read in StableHLO, before the device's own compiler. There is nothing to run it on.
"""

import collections
import math
import re

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from jax import export
from samplers import normal

from dtnh_jax import (
    GradientPair,
    dtnh,
    dtnh_adamw,
    l2,
    l2_sp,
    mix_regularizers,
    skip_nonfinite,
)

pytestmark = pytest.mark.usefixtures("lenient_promotion")  # for Optax's Adam

PLATFORMS = "cpu", "cuda", "tpu"
PARAMS, G, R = map(normal, range(3))


def steady():
    return optax.chain(mix_regularizers(l2_sp(), l2()), dtnh_adamw(1e-3))


def pairs():
    head = dtnh(granularity="layer", reference_decay=0.9)
    return skip_nonfinite(optax.chain(head, optax.sgd(0.1, momentum=0.9)))


@pytest.mark.parametrize(
    ("make", "given"), [(pairs, GradientPair(G, R)), (steady, G)], ids=["pair", "plain"]
)
def test_an_update_is_exported_for_every_platform(make, given):
    """From a list of arrays to a list of arrays: what is stored knows no NamedTuple."""
    pytest.importorskip("flatbuffers")  # JAX stores an artefact with it
    tx = make()
    leaves, treedef = jax.tree.flatten((given, tx.init(PARAMS), PARAMS))

    @jax.jit
    def update(leaves):
        return jax.tree.leaves(tx.update(*treedef.unflatten(leaves)))

    exported = export.export(update, platforms=PLATFORMS)(leaves)
    restored = export.deserialize(exported.serialize())
    assert restored.platforms == PLATFORMS
    found, expected = restored.call(leaves), update(leaves)
    chex.assert_trees_all_equal_dtypes(found, expected)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-7)


OPERATION = re.compile(r'= "?stablehlo\.(\w+)')
SHAPE = re.compile(r"tensor<((?:\d+x)*)\w+>")
# What moves numbers without computing anything.
COPIES = {
    *("reshape", "transpose", "concatenate", "gather", "scatter", "pad", "slice"),
    *("dynamic_slice", "dynamic_update_slice", "convert", "custom_call", "reverse"),
}
# Numbers in the smallest array of the network; what a group has is less.
SMALLEST = 64


def exported_step(tx):
    """The text of a training step for a TPU, and how many arrays it takes and returns.

    Forward and backward pass, BatchNorm statistics and optimizer.
    """
    nnx = pytest.importorskip("flax.nnx")

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 64, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(64, rngs=rngs)
            self.head = nnx.Linear(64, 80, rngs=rngs)

        def __call__(self, images):
            x = nnx.relu(self.norm(self.conv(images)))
            return self.head(x.mean(axis=(1, 2)))

    model = Network(nnx.Rngs(0))
    graph, state = nnx.split((model, nnx.Optimizer(model, tx, wrt=nnx.Param)))
    leaves, treedef = jax.tree.flatten(state)

    def step(leaves, images):
        model, optimizer = nnx.merge(graph, treedef.unflatten(leaves))
        grads = nnx.grad(lambda model: jnp.mean(model(images) ** 2))(model)
        optimizer.update(model, grads)
        return jax.tree.leaves(nnx.state((model, optimizer)))

    jitted = jax.jit(step, donate_argnums=0, keep_unused=True)
    artefact = export.export(jitted, platforms=["tpu"])(leaves, jnp.zeros((8, 9, 9, 3)))
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
    ours, arrays = exported_step(steady())
    plain, _ = exported_step(optax.adamw(1e-3))
    assert copies(ours) == copies(plain)
    assert copies(plain)  # the convolution has some
    assert not re.search(r"all_reduce|all_gather|all_to_all|collective_permute", ours)
    # Every array of the network and the optimizer is given up for its successor.
    assert len(re.findall(r"tf\.aliasing_output|jax\.buffer_donor", ours)) == arrays
