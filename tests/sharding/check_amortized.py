"""``amortized_value_and_grad`` inside ``jax.shard_map``."""

import jax
from jax.sharding import PartitionSpec as P
from layouts import batch, losses, mesh, network, specs
from trees import close

from dtnh_jax import amortized_value_and_grad

STEPS = 3  # of which the first and the last measure


def descend(layout, style, axis_name=None):
    """Parameters and state after a few steps of gradient descent."""

    def run(params, pretrained, data):
        def both(params):
            return losses(params, pretrained, data, layout, style)

        amortized = amortized_value_and_grad(
            both, refresh_every=2, weight=0.5, axis_name=axis_name
        )

        def step(carry, _):
            params, state = carry
            (_, grads), state = amortized.value_and_grad(state, params)
            return (jax.tree.map(lambda w, d: w - 0.1 * d, params, grads), state), None

        return jax.lax.scan(step, (params, amortized.init()), length=STEPS)[0]

    return run


def test_it_adds_up_over_the_devices():
    where = specs("tensor")
    sharded = jax.shard_map(
        descend("tensor", "shard_map", "model"),
        mesh=mesh("tensor", "shard_map"),
        in_specs=(where, where, P("data")),
        out_specs=(where, P()),
    )
    arguments = network(0), network(1), batch()
    params, state = jax.jit(sharded)(*arguments)
    expected = jax.jit(descend("tensor", "automatic"))(*arguments)
    assert float(state.loss_weight) > 1.01  # there was a conflict
    close((params, state), expected, 2e-5, 2e-6)
