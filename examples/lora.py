"""LoRA: trains only low-rank adapters and a new head, near the pretrained function.

The pretrained kernel is frozen and has no gradient. The penalty is that of L2-SP on the
full kernel: the squared norm of the adapters' product, which starts at zero.
"""

import digits
import jax
import jax.numpy as jnp
import optax

from dtnh_jax import conflict_report, dtnh, pair_value_and_grad

RANK = 4


def features(kernel, images):
    return jax.nn.relu(images @ kernel)


def cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def fit(tx, loss_and_grad, params, steps):
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        loss, grads = loss_and_grad(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    for _ in range(steps):
        params, state, loss = step(params, state)
    return params, state, loss


keys = jax.random.split(jax.random.key(0), 4)
head = jax.random.normal(keys[1], (64, 5)) / 8
params = {"body": jax.random.normal(keys[0], (64, 64)) / 8, "head": head}
images, labels = digits.source()
pretraining_loss = jax.value_and_grad(
    lambda p: cross_entropy(features(p["body"], images) @ p["head"], labels)
)
pretrained, _, _ = fit(optax.adam(1e-2), pretraining_loss, params, steps=100)

(images, labels), (test_images, test_labels) = digits.target()
adapted = {
    "a": jax.random.normal(keys[2], (64, RANK)) / 8,
    "b": jnp.zeros((RANK, 64)),
    "head": jax.random.normal(keys[3], (64, 5)) / 8,
}


def logits_and_change(params, images):
    change = params["a"] @ params["b"]
    return features(pretrained["body"] + change, images) @ params["head"], change


def losses(params):
    logits, change = logits_and_change(params, images)
    return cross_entropy(logits, labels), 0.5 * jnp.sum(change**2)


tx = optax.chain(dtnh(0.1), optax.sgd(0.1, momentum=0.9))
adapted, state, (loss, _) = fit(tx, pair_value_and_grad(losses), adapted, steps=100)
accuracy = (logits_and_change(adapted, test_images)[0].argmax(-1) == test_labels).mean()
print(f"loss {loss:.3f}, held-out accuracy {accuracy:.1%}")
print(conflict_report(state)["global"])
