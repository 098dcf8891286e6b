"""One training step of one network, by any method."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dtnh_jax import feature_distillation, pair_value_and_grad
from experiments import networks
from experiments.methods import Method
from experiments.recipe import Recipe
from experiments.training import augment


class Teacher(NamedTuple):
    """The pretrained network for distillation.

    Attributes:
      params: its parameters; the head is not used.
      channel_weights: for DELTA, the weight of each channel of each feature map, map
        name -> float32 ``[channels]``; ``None`` for equal weights.
    """

    params: networks.Params
    channel_weights: dict[str, jax.Array] | None = None


class State(NamedTuple):
    """What a step updates.

    Attributes:
      params: the network's ``networks.Params``.
      opt_state: state of the method's chain, including the anchor of L2-SP.
    """

    params: Any
    opt_state: Any


class Measured(NamedTuple):
    """What a step measures. Except for the loss, by group ``[K]``, or ``None``.

    Attributes:
      loss: the empirical loss on the batch before the update, in nats, a scalar.
      cosine: cosine of the angle between the regularizer gradient and the reference.
      conflict: 1 if the cosine is negative, else 0.
      pull: ``|r'| / |u|``, how hard the regularizer pulls compared with the optimizer.
    """

    loss: Any
    cosine: Any = None
    conflict: Any = None
    pull: Any = None


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean cross-entropy of logits ``[n, classes]`` in nats, a scalar."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean()


def gradients(
    spec: networks.Spec,
    method: Method,
    params: networks.Params,
    teacher: Teacher | None,
    images: jax.Array,
    labels: jax.Array,
) -> tuple[jax.Array, Any]:
    """The empirical loss, and the input of the method's chain: gradients or a pair."""
    if not method.distills:

        def loss_of(params):
            return cross_entropy(networks.logits(spec.build(params), images), labels)

        return jax.value_and_grad(loss_of)(params)
    assert teacher is not None, "distillation has a teacher"
    target = spec.build(teacher.params).features(images)

    def losses(params):
        network = spec.build(params)
        features = network.features(images)
        loss = cross_entropy(network.head(networks.last(features)), labels)
        return loss, feature_distillation(features, target, teacher.channel_weights)

    (loss, _), pair = pair_value_and_grad(losses)(params)
    return loss, pair


def step(
    spec: networks.Spec,
    method: Method,
    recipe: Recipe,
    tx: optax.GradientTransformation,
    state: State,
    teacher: Teacher | None,
    batch: tuple[jax.Array, jax.Array, jax.Array],
) -> tuple[State, Measured]:
    """One update.

    Args:
      spec, method, recipe: the network, and how it is regularized and trained.
      tx: the method's chain.
      state: the state before the step.
      teacher: the teacher for distillation, else ``None``.
      batch: images ``[n, ...]``, labels ``[n]``, and a random key for the crops.
    """
    images, labels, key = batch
    if recipe.crop is not None:
        images = augment.random_crops(key, images, recipe.crop)
    loss, grads = gradients(spec, method, state.params, teacher, images, labels)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return State(params, opt_state), Measured(loss, *_conflict(opt_state))


def _conflict(opt_state: Any) -> tuple[jax.Array, ...]:
    found: Any = optax.tree.get(opt_state, "DtnhState", None)
    if found is None:
        return ()
    cosine = found.conflict.cosine
    return cosine, (cosine < 0).astype(jnp.float32), found.conflict.pull
