"""Flax NNX: feature distillation with BatchNorm, in one forward pass."""

import digits
import optax
from flax import nnx

from dtnh_jax import (
    conflict_report,
    dtnh_sgd,
    feature_distillation,
    l2,
    l2_sp,
    mix_regularizers,
)
from dtnh_jax.nnx import nnx_pair_value_and_grad


class Cnn(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 16, (3, 3), strides=2, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.head = nnx.Linear(256, 5, rngs=rngs)

    def __call__(self, images):
        maps = nnx.relu(self.norm(self.conv(images.reshape(-1, 8, 8, 1))))
        return self.head(maps.reshape(len(images), -1)), {"conv": maps}


def cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@nnx.jit
def pretrain_step(model, optimizer, images, labels):
    grads = nnx.grad(lambda model: cross_entropy(model(images)[0], labels))(model)
    optimizer.update(model, grads)


@nnx.jit
def train_step(model, optimizer, teacher, images, labels):
    _, teacher_maps = teacher(images)

    def losses(model):
        logits, maps = model(images)
        return cross_entropy(logits, labels), feature_distillation(maps, teacher_maps)

    (loss, _), pair = nnx_pair_value_and_grad(losses)(model)
    optimizer.update(model, pair.empirical, regularizer_grads=pair.regularizer)
    return loss


model = Cnn(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
for _ in range(50):
    pretrain_step(model, optimizer, *digits.source())

train, (test_images, test_labels) = digits.target()
teacher = nnx.clone(model)
teacher.eval()
model.head = nnx.Linear(256, 5, rngs=nnx.Rngs(1))
# Distillation in a mix with two regularizers that need no second backward pass.
mix = mix_regularizers(l2_sp(new={"head": True}), l2())
tx = optax.chain(mix, dtnh_sgd(0.05, momentum=0.9))
optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
for _ in range(100):
    loss = train_step(model, optimizer, teacher, *train)

model.eval()
accuracy = (model(test_images)[0].argmax(-1) == test_labels).mean()
print(f"loss {loss:.3f}, held-out accuracy {accuracy:.1%}")
for layer, values in conflict_report(optimizer.opt_state).items():
    print(f"{layer}: cosine {values['cosine']:+.2f}, conflict in {values['rate']:.0%}")
