"""Gradient accumulation over micro-batches, computing in bfloat16.

The parameters stay in float32. ``multi_steps`` averages both gradients, then projects
once. For plain gradients, such as those that ``l2_sp`` takes, use ``optax.MultiSteps``.
"""

import digits
import jax
import jax.numpy as jnp
import optax

from dtnh_jax import dtnh, l2_sp_penalty, multi_steps, pair_value_and_grad


def dense(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def loss_fn(params, images, labels):
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    hidden = jax.nn.relu(dense(half["body"], jnp.asarray(images, jnp.bfloat16)))
    logits = dense(half["head"], hidden).astype(jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def new_layer(key, size_in, size_out):
    kernel = jax.random.normal(key, (size_in, size_out)) * size_in**-0.5
    return {"kernel": kernel, "bias": jnp.zeros(size_out)}


keys = jax.random.split(jax.random.key(0), 3)
params = {"body": new_layer(keys[0], 64, 64), "head": new_layer(keys[1], 64, 5)}
images, labels = digits.source()
adam = optax.adam(1e-2)
state = adam.init(params)
grad_fn = jax.jit(jax.grad(loss_fn))
for _ in range(100):
    updates, state = adam.update(grad_fn(params, images, labels), state)
    params = optax.apply_updates(params, updates)

(images, labels), (test_images, test_labels) = digits.target()
pretrained = {"body": params["body"], "head": None}
params = {"body": params["body"], "head": new_layer(keys[2], 64, 5)}
tx = multi_steps(optax.chain(dtnh(0.1), optax.sgd(0.1, momentum=0.9)), every_k=5)
state = tx.init(params)


@jax.jit
def micro_step(params, state, images, labels):
    def losses(params):
        loss = loss_fn(params, images, labels)
        return loss, l2_sp_penalty(params, pretrained, alpha=1.0)

    (loss, _), pair = pair_value_and_grad(losses)(params)
    updates, state = tx.update(pair, state, params)
    return optax.apply_updates(params, updates), state, loss


for step in range(500):
    rows = slice(step % 5, None, 5)
    params, state, loss = micro_step(params, state, images[rows], labels[rows])

assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
hidden = jax.nn.relu(dense(params["body"], test_images))
accuracy = (dense(params["head"], hidden).argmax(-1) == test_labels).mean()
print(f"loss {loss:.3f}, held-out accuracy {accuracy:.1%}")
