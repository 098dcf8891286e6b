"""A leaf of which one gradient alone differs between devices is sharded as well."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from dtnh_jax import GradientPair, dtnh, mix_regularizers, project_conflict


@pytest.mark.parametrize("constant", ["empirical", "regularizer"])
def test_a_constant_beside_a_sharded_gradient(constant):
    """As where a penalty's gradient is zero, or the same number everywhere."""
    whole = jnp.asarray(np.random.default_rng(0).standard_normal(16) + 1, jnp.float32)

    def run(part, **kwargs):
        halves = {"empirical": part, "regularizer": -part}
        # By its type, the same everywhere.
        halves[constant] = jnp.full(part.shape, -1.0)
        pair, tx = GradientPair(**halves), dtnh(**kwargs)
        updates, state = tx.update(pair, tx.init(part))
        kept = project_conflict(pair, **kwargs)
        mix = mix_regularizers(**kwargs)
        mixed, _ = mix.update(pair, mix.init(part), part)
        return updates, kept, mixed.regularizer, state.conflict

    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.shard_map(
        functools.partial(run, axis_name="x"),
        mesh=mesh,
        in_specs=P("x"),
        out_specs=(P("x"), P("x"), P("x"), P()),
    )
    found = jax.jit(sharded)(whole), jax.jit(run)(whole)
    chex.assert_trees_all_close(*found, rtol=1e-5, atol=1e-6)
