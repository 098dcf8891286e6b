"""``optax.partition``: DTNH for the pretrained body, Adam for a new head."""

import digits
import jax
import jax.numpy as jnp
import optax

from dtnh_jax import conflict_report, dtnh_sgd, l2, l2_sp, mix_regularizers


def loss_fn(params, images, labels):
    hidden = jax.nn.relu(images @ params["body"]["kernel"] + params["body"]["bias"])
    logits = hidden @ params["head"]["kernel"]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean(), logits


def fit(tx, params, images, labels, steps):
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        (loss, _), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            params, images, labels
        )
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    for _ in range(steps):
        params, state, loss = step(params, state)
    return params, state, loss


keys = jax.random.split(jax.random.key(0), 3)
params = {
    "body": {"kernel": jax.random.normal(keys[0], (64, 64)) / 8, "bias": jnp.zeros(64)},
    "head": {"kernel": jax.random.normal(keys[1], (64, 5)) / 8},
}
params, _, _ = fit(optax.adam(1e-2), params, *digits.source(), steps=100)

train, test = digits.target()
mix = mix_regularizers(l2_sp(), l2())
tx = optax.partition(
    {
        "pretrained": optax.chain(mix, dtnh_sgd(0.1, momentum=0.9)),
        "new": optax.adam(1e-2),
    },
    {"body": "pretrained", "head": "new"},
)
params["head"] = {"kernel": jax.random.normal(keys[2], (64, 5)) / 8}
params, state, loss = fit(tx, params, *train, steps=100)

_, logits = loss_fn(params, *test)
print(f"loss {loss:.3f}, held-out accuracy {(logits.argmax(-1) == test[1]).mean():.1%}")
print(conflict_report(state)["body"])
