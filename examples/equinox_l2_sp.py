"""Equinox: L2-SP and weight decay in an ordinary loop. Only the optimizer changes."""

import digits
import equinox as eqx
import jax
import optax

from dtnh_jax import conflict_report, dtnh_sgd, l2, l2_sp, mix_regularizers


@eqx.filter_value_and_grad
def loss_and_grad(model, images, labels):
    logits = jax.vmap(model)(images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def fit(model, tx, images, labels, steps):
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, state):
        loss, grads = loss_and_grad(model, images, labels)
        params = eqx.filter(model, eqx.is_inexact_array)
        updates, state = tx.update(grads, state, params)
        return eqx.apply_updates(model, updates), state, loss

    for _ in range(steps):
        model, state, loss = step(model, state)
    return model, state, loss


body_key, head_key = jax.random.split(jax.random.key(0))
model = eqx.nn.MLP(64, 5, width_size=64, depth=1, key=body_key)
model, _, _ = fit(model, optax.adam(1e-2), *digits.source(), steps=100)

train, (test_images, test_labels) = digits.target()
new_head = eqx.nn.Linear(64, 5, key=head_key)
model = eqx.tree_at(lambda m: m.layers[-1], model, new_head)
mix = mix_regularizers(l2_sp(new={"layers": {1: True}}), l2())
tx = optax.chain(mix, dtnh_sgd(0.1, momentum=0.9))
model, state, loss = fit(model, tx, *train, steps=100)

accuracy = (jax.vmap(model)(test_images).argmax(-1) == test_labels).mean()
print(f"loss {loss:.3f}, held-out accuracy {accuracy:.1%}")
print(conflict_report(state))
