"""How many collectives a sharded training step has more with DTNH than without it.

The whole step, under plain ``jax.jit``, where the compiler places the sums. The CPU's
leaves more than one all-reduce where arrays are sharded: it sums each array over the
devices before it adds up the arrays of a group.
"""

import jax
import optax
import pytest
from hlo import collectives
from jax.sharding import PartitionSpec as P
from layouts import LAYOUTS, batch, losses, mesh, network, place, specs, state_specs

from dtnh_jax import dtnh, dtnh_adamw, l2, l2_sp, mix_regularizers

pytestmark = pytest.mark.usefixtures("lenient_promotion")
SLOW = pytest.mark.slow


def by_hand():
    """L2-SP added to the gradient; the state is the pretrained parameters."""

    def update(updates, state, params=None):
        pulled = jax.tree.map(lambda g, w, w0: g + (w - w0), updates, params, state)
        return pulled, state

    return optax.chain(
        optax.GradientTransformation(lambda params: params, update), optax.adamw(0.1)
    )


def layerwise():
    return optax.chain(l2_sp(), dtnh(granularity="layer"), optax.adamw(0.1))


def steady():
    return optax.chain(mix_regularizers(l2_sp(), l2()), dtnh_adamw(0.1))


def counted(tx, layout):
    """Collectives of a step that keeps the places of parameters and state."""
    on, params = mesh(layout, "automatic"), network(0)
    where = specs(layout), state_specs(tx, params, layout)
    start = place(on, (params, jax.jit(tx.init)(params)), where)
    data = place(on, batch(), (P("data"), P("data")))

    def step(params, state, data):
        def loss(params):
            return losses(params, params, data, layout, "automatic")[0]

        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    kept = jax.tree.map(lambda x: x.sharding, start)
    jitted = jax.jit(step, donate_argnums=(0, 1), out_shardings=kept)
    counts = collectives(jitted.lower(*start, data).compile().as_text())
    return {kind: count["operations"] for kind, count in counts.items()}


# All-reduces at most, of a network with two layers, of two arrays each.
ADDED = {
    "data": {layerwise: 0, steady: 0},
    "fsdp": {layerwise: 4, steady: 5},
    "tensor": {layerwise: 1, steady: 2},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("make", [pytest.param(layerwise, marks=SLOW), steady])
def test_collectives_added(make, layout):
    without, more = counted(by_hand(), layout), counted(make(), layout)
    added = more.pop("all-reduce") - without.pop("all-reduce")
    assert added <= ADDED[layout][make]
    assert more == without
