"""A run that is saved and resumed makes the steps of one that was not, bit for bit.

The anchor is random in every process, as a freshly initialised LoRA's A is: resuming
must take it out of the checkpoint.
"""

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from samplers import normal

from dtnh_jax import (
    GradientPair,
    conflict_report,
    dtnh_adamw,
    dtnh_sgd,
    l2,
    l2_sp,
    mix_regularizers,
    multi_steps,
    skip_nonfinite,
)

ocp = pytest.importorskip("orbax.checkpoint")

pytestmark = pytest.mark.usefixtures("lenient_promotion")


TEMPLATE = {"body": {"a": (4, 2), "b": (2,)}}


def start(seed):
    """Parameters as a process begins with: only the head is the same for every seed."""
    return normal(seed, TEMPLATE) | {"head": jnp.ones(3)}


def gradient(step):
    return jax.tree.map(lambda x: jnp.sin(x + step), start(100 + step))


def other(seed):
    """What a process reads a pretrained network from: here it is another every time."""
    return start(seed + 50) | {"head": None}


def pair(step):
    return GradientPair(gradient(step), gradient(step + 10))


# From the seed of the process to its optimizer, and from a step to what it is given.
OPTIMIZERS = {
    "pretrained": (
        lambda seed: optax.chain(l2_sp(pretrained=other(seed)), dtnh_sgd(0.1)),
        gradient,
    ),
    "steady": (
        lambda seed: optax.chain(
            mix_regularizers(l2_sp(new={"head": True}), l2()), dtnh_adamw(0.1)
        ),
        gradient,
    ),
    "multi_steps": (
        lambda seed: multi_steps(skip_nonfinite(dtnh_sgd(0.1)), 2),
        pair,
    ),
}


def steps(tx, carry, given, numbers):
    update = jax.jit(tx.update)
    for step in numbers:
        params, state = carry
        updates, state = update(given(step), state, params)
        carry = optax.apply_updates(params, updates), state
    return carry


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resumed_as_if_never_interrupted(name, tmp_path):
    build, given = OPTIMIZERS[name]
    tx = build(0)
    saved = steps(tx, (start(0), tx.init(start(0))), given, range(3))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "run", saved)
    expected = steps(tx, saved, given, range(3, 6))

    # As another process does it, which knows nothing of the first one's numbers.
    tx = build(1)
    with ocp.StandardCheckpointer() as checkpointer:
        target = start(1), tx.init(start(1))
        restored = checkpointer.restore(
            tmp_path / "run", jax.eval_shape(lambda: target)
        )
    chex.assert_trees_all_equal_structs(restored, saved)
    found = steps(tx, restored, given, range(3, 6))
    chex.assert_trees_all_equal(found, expected)
    chex.assert_trees_all_equal(*map(conflict_report, (found[1], expected[1])))
