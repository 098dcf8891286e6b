"""What Optax asks of its optimizers on meshes, asked of everything here."""

import chex
import jax
import pytest
from jax.sharding import AxisType
from optimizers import (
    every_optimizer,
    gradients,
    network,
    one_step,
    optimizer,
    types,
)

pytestmark = pytest.mark.usefixtures("lenient_promotion")


def mesh_of_eight(axis_type):
    return jax.set_mesh(jax.make_mesh((8,), ("x",), axis_types=(axis_type,)))


def place(tree):
    """Shards arrays along their dimension of eight."""
    return jax.tree.map(
        lambda x: jax.device_put(x, jax.P(*("x" if n == 8 else None for n in x.shape))),
        tree,
    )


@every_optimizer
def test_types_on_an_explicit_mesh(name, way):
    """Types, of which places are a part here, are the same before and after a step."""
    with mesh_of_eight(AxisType.Explicit):
        params, anchor = place(network()), place(network(seed=1))
        tx = optimizer(name, way, anchor)
        state = tx.init(params)

        def step(params, state):
            return tx.update(gradients(way, params, params, anchor), state, params)

        def kinds(tree):
            return jax.tree.map(
                lambda x: (x.shape, x.dtype, x.weak_type, x.sharding.spec), types(tree)
            )

        updates, new = jax.eval_shape(step, params, state)
        assert kinds(updates) == kinds(params)
        assert kinds(new) == kinds(state)
        assert kinds(jax.eval_shape(tx.init, params)) == kinds(state)


def test_numbers_on_a_mesh():
    step, alone, tx = one_step("multi_steps", "pair")
    expected = jax.jit(step)(alone, tx.init(alone))
    with mesh_of_eight(AxisType.Explicit):
        params = place(alone)
        updates, state = jax.jit(tx.update)(
            gradients("pair", params, params, place(network(seed=1))),
            tx.init(params),
            params,
        )
    chex.assert_trees_all_close((updates, state), expected, rtol=1e-5, atol=1e-6)
    for x, like in zip(*map(jax.tree.leaves, (updates, params)), strict=True):
        assert x.sharding.is_equivalent_to(like.sharding, x.ndim)
