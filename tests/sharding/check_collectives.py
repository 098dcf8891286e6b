"""How many collectives a sharded training step has more with DTNH than without it.

The whole step, under plain ``jax.jit``, where the compiler places the sums. The CPU's
leaves more than one all-reduce where arrays are sharded: it sums each array over the
devices before it adds up the arrays of a group.
"""

import collections

import jax
import optax
import pytest
from jax.sharding import PartitionSpec as P
from layouts import batch, collectives, losses, mesh, network, place, specs, state_specs

from benchmarks.goals import ALL_REDUCES
from benchmarks.programs.rules import l2_sp_by_hand
from dtnh_jax import dtnh_adamw, l2, l2_sp, mix_regularizers

pytestmark = pytest.mark.usefixtures("lenient_promotion")


def by_hand():
    return optax.chain(l2_sp_by_hand(1.0), optax.adamw(0.1))


def steady():
    return optax.chain(mix_regularizers(l2_sp(), l2()), dtnh_adamw(0.1))


def counted(tx, layout):
    """Collectives of a step that keeps the places of parameters and state."""
    on, params = mesh(layout, "automatic"), network(0)
    where = specs(layout), state_specs(tx, params, specs(layout))
    start = place(on, (params, jax.jit(tx.init)(params)), where)
    data = place(on, batch(), (P("data"), P("data")))

    def step(params, state, data):
        def loss(params):
            return losses(params, params, data, layout, "automatic")[0]

        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    kept = jax.tree.map(lambda x: x.sharding, start)
    jitted = jax.jit(step, donate_argnums=(0, 1), out_shardings=kept)
    text = jitted.lower(*start, data).compile().as_text()
    return collections.Counter(kind for kind, _ in collectives(text))


@pytest.mark.parametrize(("layout", "most"), ALL_REDUCES.items())
def test_collectives_added(layout, most):
    without, more = counted(by_hand(), layout), counted(steady(), layout)
    added = more.pop("all-reduce") - without.pop("all-reduce")
    assert added <= most
    assert more == without
