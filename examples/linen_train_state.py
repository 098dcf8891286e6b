"""Flax Linen with BatchNorm: a ``TrainState`` whose gradients are pairs.

The penalty is feature distillation. ``mix_regularizers`` adds L2-SP and weight decay.
"""

from typing import Any

import digits
import flax.linen as nn
import jax
import optax
from flax.training import train_state

from dtnh_jax import (
    conflict_report,
    dtnh,
    dtnh_sgd,
    feature_distillation,
    l2,
    l2_sp,
    mix_regularizers,
    pair_value_and_grad,
)


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        hidden = nn.Dense(64, name="body")(images)
        hidden = nn.relu(nn.BatchNorm(not train, name="norm")(hidden))
        return nn.Dense(5, name="head")(hidden), hidden


class TrainState(train_state.TrainState):
    batch_stats: Any


@jax.jit
def train_step(state, teacher, images, labels):
    _, wanted = Mlp().apply(teacher, images, train=False)

    def losses(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        (logits, hidden), new = Mlp().apply(
            variables, images, train=True, mutable="batch_stats"
        )
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return (loss, feature_distillation(hidden, wanted)), new["batch_stats"]

    ((loss, _), stats), pair = pair_value_and_grad(losses, has_aux=True)(state.params)
    return state.apply_gradients(grads=pair, batch_stats=stats), loss


def fit(variables, tx, teacher, images, labels, steps):
    state = TrainState.create(apply_fn=Mlp().apply, tx=tx, **variables)
    for _ in range(steps):
        state, loss = train_step(state, teacher, images, labels)
    return state, loss


images, labels = digits.source()
fresh = Mlp().init(jax.random.key(0), images, train=False)
alone = optax.chain(dtnh(0.0), optax.sgd(0.1, momentum=0.9))  # no regularization
state, _ = fit(fresh, alone, fresh, images, labels, steps=100)

train, (test_images, test_labels) = digits.target()
teacher = {"params": state.params, "batch_stats": state.batch_stats}
student = teacher | {"params": {**state.params, "head": fresh["params"]["head"]}}
mix = mix_regularizers(l2_sp(new={"head": True}), l2())
tx = optax.chain(mix, dtnh_sgd(0.1, momentum=0.9))
state, loss = fit(student, tx, teacher, *train, steps=100)

variables = {"params": state.params, "batch_stats": state.batch_stats}
logits, _ = Mlp().apply(variables, test_images, train=False)
accuracy = (logits.argmax(-1) == test_labels).mean()
print(f"loss {loss:.3f}, held-out accuracy {accuracy:.1%}")
for layer, values in conflict_report(state).items():
    print(f"{layer}: cosine {values['cosine']:+.2f}, conflict in {values['rate']:.0%}")
