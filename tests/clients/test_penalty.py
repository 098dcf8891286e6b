"""A maker of one's own, in a plain loop."""

import jax
import jax.numpy as jnp
import optax
import page
import steady


def test_a_maker_is_one_more_member_of_the_mix():
    scope = page.run("A penalty of the parameters")
    tx, penalty = scope["tx"], scope["not_orthogonal"]
    keys = jax.random.split(jax.random.key(0), 3)
    start = {
        "body": {"kernel": jax.random.normal(keys[0], (4, 8)), "bias": jnp.zeros(8)},
        "head": {"kernel": jax.random.normal(keys[1], (8, 3)), "bias": jnp.zeros(3)},
    }
    x = jax.random.normal(keys[2], (12, 4))

    def loss(params, t):
        hidden = jax.nn.relu(x @ params["body"]["kernel"] + params["body"]["bias"])
        logits = hidden @ params["head"]["kernel"] + params["head"]["bias"]
        labels = (jnp.arange(12) + t) % 3
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def step(params, state, t):
        updates, state = tx.update(jax.grad(loss)(params, t), state, params)
        return optax.apply_updates(params, updates), state

    @jax.jit
    def grads(params, t):
        return jax.grad(loss)(params, t), jax.grad(penalty)(params)

    params, state = start, tx.init(start)
    for t in range(5):
        params, state = step(params, state, t)

    steady.check(params, start, grads)
