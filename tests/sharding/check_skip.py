"""``skip_nonfinite`` inside ``jax.shard_map``: all devices skip where one has to."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from dtnh_jax import GradientPair, dtnh, skip_nonfinite, skip_report

SPECS = {"kernel": P("x"), "bias": P()}
PARAMS = {
    "kernel": np.arange(8, dtype=np.float32).reshape(4, 2),
    "bias": np.ones(2, "f"),
}


@pytest.mark.parametrize("check_vma", [True, False])
def test_all_devices_skip_where_one_has_to(check_vma):
    mesh = jax.make_mesh((2,), ("x",), (AxisType.Auto,), devices=jax.devices()[:2])
    bad = jax.tree.map(np.copy, PARAMS)
    bad["kernel"][3, 1] = np.nan
    # By leaf, so that the bias gets an update that is finite.
    head = dtnh(granularity="leaf", reference_decay=0.5, axis_name=SPECS)
    tx = skip_nonfinite(optax.chain(head, optax.sgd(0.1)), axis_name=SPECS)
    state = tx.init(PARAMS)
    places = jax.tree.map(lambda x: P("x") if x.shape == (4, 2) else P(), state)
    update = jax.jit(
        jax.shard_map(
            tx.update,
            mesh=mesh,
            check_vma=check_vma,
            in_specs=(GradientPair(SPECS, SPECS), places, SPECS),
            out_specs=(SPECS, places),
        )
    )
    updates, new = update(GradientPair(PARAMS, bad), state, PARAMS)
    chex.assert_trees_all_equal(updates, jax.tree.map(np.zeros_like, PARAMS))
    inner = (new.inner_state, state.inner_state)
    for x, y in zip(*map(jax.tree.leaves, inner), strict=True):
        for shard in x.addressable_shards:
            np.testing.assert_array_equal(shard.data, jnp.asarray(y)[shard.index])
    for shard in new.skipped.addressable_shards:
        assert shard.data == 1
    report = skip_report(new)
    assert (report["empirical"], report["regularizer"]) == ([], ["kernel"])
    for factor in (-0.1, -0.2):  # in the first of these steps there is no average yet
        updates, new = update(GradientPair(PARAMS, PARAMS), new, PARAMS)
        chex.assert_trees_all_close(updates["kernel"], factor * PARAMS["kernel"])
    assert skip_report(new)["in_a_row"] == 0
