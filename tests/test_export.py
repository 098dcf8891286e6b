"""An update compiled elsewhere: lowered on a CPU for GPUs and TPUs, and back."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

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


def network(seed, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return {
        "body": {
            "kernel": jnp.asarray(rng.standard_normal((4, 3)), dtype),
            "bias": jnp.asarray(rng.standard_normal(3), dtype),
        },
        "head": jnp.asarray(rng.standard_normal((3, 2)), dtype),
    }


PARAMS, G, R = (network(seed) for seed in range(3))
SGD = optax.sgd(0.1, momentum=0.9)
ADAM = {"inner": optax.scale_by_adam(), "max_ratio": 0.5}
CASES = {
    "pair": ("pair", optax.chain(dtnh(0.5), SGD)),
    "keyword": ("keyword", optax.chain(dtnh(0.5), SGD)),
    "l2_sp": ("plain", optax.chain(l2_sp(0.1, pretrained=R), dtnh(), SGD)),
    "steady": ("plain", optax.chain(mix_regularizers(l2_sp(), l2()), dtnh_adamw(0.1))),
    "inner adam": ("pair", optax.chain(dtnh(0.5, **ADAM), optax.scale(-0.1))),
    "reference": ("pair", optax.chain(dtnh(reference_decay=0.9), SGD)),
    "layer": ("pair", optax.chain(dtnh(granularity="layer"), SGD)),
    "skip_nonfinite": ("pair", skip_nonfinite(optax.chain(dtnh(), SGD))),
}


def by_leaves(form, tx):
    """The jitted update, from a list of arrays to a list of arrays, and the first.

    An artefact that is to be stored knows lists and dicts only: every NamedTuple, of
    Optax too, would have to be registered first.
    """
    given, r = (GradientPair(G, R), None) if form == "pair" else (G, R)
    arguments = given, tx.init(PARAMS), PARAMS, r
    leaves, treedef = jax.tree.flatten(arguments)

    @jax.jit
    def update(leaves):
        given, state, params, r = treedef.unflatten(leaves)
        kwargs = {"regularizer_grads": r} if form == "keyword" else {}
        return jax.tree.leaves(tx.update(given, state, params, **kwargs))

    return update, leaves


def close(actual, expected):
    chex.assert_trees_all_equal_dtypes(actual, expected)
    chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_an_update_is_exported_for_every_platform(name):
    update, leaves = by_leaves(*CASES[name])
    exported = export.export(update, platforms=PLATFORMS)(leaves)
    assert exported.platforms == PLATFORMS
    pytest.importorskip("flatbuffers")  # JAX stores an artefact with it
    restored = export.deserialize(exported.serialize())
    close(restored.call(leaves), update(leaves))


@pytest.mark.parametrize("platform", PLATFORMS[1:])
def test_an_update_is_exported_for_each_alone(platform):
    update, leaves = by_leaves(*CASES["pair"])
    exported = export.export(update, platforms=[platform])(leaves)
    assert exported.platforms == (platform,)
    assert len(exported.out_avals) == len(update(leaves))
