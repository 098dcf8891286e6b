"""``multi_steps`` on a mesh: what it holds lies where the parameters lie."""

import jax
import optax
import pytest
import test_accumulate as one
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from dtnh_jax import GradientPair

pytestmark = pytest.mark.usefixtures("lenient_promotion")

SPECS = {"body": {"kernel": P("x")}, "head": {"bias": P()}}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_on_a_mesh_of_eight_devices(kind):
    tx = one.skipping(one.steady())
    data = one.batches(16, 8)
    expected, _ = one.train(tx, "pair", data)
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))

    def place(tree, specs):
        return jax.tree.map(
            lambda w, spec: jax.device_put(w, NamedSharding(mesh, spec)), tree, specs
        )

    with jax.set_mesh(mesh):
        params = place(one.START, SPECS)
        state, update = tx.init(params), jax.jit(tx.update)
        for batch in data:
            given, _ = one.pair_form(jax.device_get(params), batch)
            given = place(given, GradientPair(SPECS, SPECS))
            updates, state = update(given, state, params)
            params = optax.apply_updates(params, updates)
    for half in state.inner_state.acc_grads:
        assert half["body"]["kernel"].sharding.spec[0] == "x"
    one.near(jax.device_get(params), expected[-1])
