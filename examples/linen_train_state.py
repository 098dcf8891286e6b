"""Flax Linen: a ``TrainState`` whose gradients are pairs."""

import digits
import flax.linen as nn
import jax
import optax
from flax.training.train_state import TrainState

from dtnh_jax import (
    GradientPair,
    conflict_report,
    dtnh,
    l2_sp_penalty,
    pair_value_and_grad,
)


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, images):
        hidden = nn.relu(nn.Dense(64, name="body")(images))
        return nn.Dense(5, name="head")(hidden)


def loss_fn(params, images, labels):
    logits = Mlp().apply({"params": params}, images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@jax.jit
def pretrain_step(state, images, labels):
    grads = jax.grad(loss_fn)(state.params, images, labels)
    return state.apply_gradients(grads=grads)


@jax.jit
def train_step(state, pretrained, images, labels):
    def losses(params):
        loss = loss_fn(params, images, labels)
        return loss, l2_sp_penalty(params, pretrained, alpha=1.0)

    (loss, _), pair = pair_value_and_grad(losses)(state.params)
    assert isinstance(pair, GradientPair)
    return state.apply_gradients(grads=pair), loss


def new_state(params, tx):
    return TrainState.create(apply_fn=Mlp().apply, params=params, tx=tx)


images, labels = digits.source()
fresh = Mlp().init(jax.random.key(0), images)["params"]
state = new_state(fresh, optax.adam(1e-2))
for _ in range(100):
    state = pretrain_step(state, images, labels)

(images, labels), (test_images, test_labels) = digits.target()
pretrained = {"body": state.params["body"], "head": None}
params = {"body": state.params["body"], "head": fresh["head"]}
state = new_state(params, optax.chain(dtnh(0.1), optax.sgd(0.1, momentum=0.9)))
for _ in range(100):
    state, loss = train_step(state, pretrained, images, labels)

logits = Mlp().apply({"params": state.params}, test_images)
accuracy = (logits.argmax(-1) == test_labels).mean()
print(f"loss {loss:.3f}, held-out accuracy {accuracy:.1%}")
print(conflict_report(state)["global"])
