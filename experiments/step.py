"""One training step of any method: what both loops repeat.

The studies' loop (``train``) trains all seeds of a cell at once; the trainer's
(``trainer/loop.py``) one network over many devices, with checkpoints.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from dtnh_jax import feature_distillation, pair_value_and_grad
from experiments import augment, networks
from experiments.methods import FEATURE_SCALE, Method
from experiments.recipe import Recipe

# The number, folded into a seed's key, of the draws of crops.
CROP = 1


class Reference(NamedTuple):
    """What a regularizer compares with.

    Attributes:
      params: the pretrained parameters, ``None`` for the head's (``networks.anchor``).
      channel_weights: for DELTA, how much each channel of each feature map counts:
        map name -> float32 ``[channels]``; ``None``: all alike.
    """

    params: Any
    channel_weights: Any = None


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over the batch in nats, a scalar, of logits ``[n, classes]``."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean()


def gradients(
    architecture: networks.Spec,
    method: Method,
    params: networks.Params,
    reference: Reference,
    images: jax.Array,
    labels: jax.Array,
) -> tuple[jax.Array, jax.Array | None, Any]:
    """The two values, and what the method's chain takes: gradients, or a pair.

    The values are the empirical loss and the penalty that λ multiplies, scalars
    float32; ``None`` for the penalty of a method without one.
    """
    if not method.distills:

        def loss_of(params):
            return cross_entropy(
                networks.logits(architecture.build(params), images), labels
            )

        loss, gradient = jax.value_and_grad(loss_of)(params)
        return loss, method.penalty(params, reference.params), gradient
    body = {**reference.params, "head": params["head"]}
    teacher = architecture.build(body).features(images)

    def losses(params):
        network = architecture.build(params)
        features = network.features(images)
        loss = cross_entropy(network.head(networks.last(features)), labels)
        return loss, feature_distillation(features, teacher, reference.channel_weights)

    (loss, distance), pair = pair_value_and_grad(losses)(params)
    return loss, FEATURE_SCALE * distance, pair


class Stepped(NamedTuple):
    """What a step leaves.

    Attributes:
      params: the new parameters, ``networks.Params``.
      opt_state: the optimizer's new state, DTNH's in it.
      loss: the empirical loss on the batch before the update, a scalar float32.
      penalty: the regularizer's value there, which λ multiplies, a scalar float32;
        ``None`` without a regularizer.
    """

    params: Any
    opt_state: Any
    loss: jax.Array
    penalty: jax.Array | None


class Training(NamedTuple):
    """How one network trains.

    Attributes:
      init: from parameters to the optimizer's first state.
      step: from parameters, the optimizer's state, images ``[n, ...]``, labels ``[n]``
        and a random key to a ``Stepped``.
    """

    init: Callable[[networks.Params], Any]
    step: Callable[..., Stepped]


def training(
    architecture: networks.Spec,
    method: Method,
    recipe: Recipe,
    reference: Reference,
    weight: jax.Array,
    learning_rate: jax.Array,
) -> Training:
    """Puts a network, a method and a recipe together.

    Args:
      architecture: of the network.
      method: how the regularizer, if any, joins the empirical gradient.
      recipe: the optimizer, and whether images are cropped; its learning rate is not
        looked at.
      reference: what ``method`` pulls to.
      weight: λ, a scalar float32.
      learning_rate: a scalar float32.
    """
    tx = method.transformation(reference.params, weight, learning_rate, recipe)

    def step(params, opt_state, images, labels, key):
        if recipe.crop is not None:
            images = augment.random_crops(key, images, recipe.crop)
        loss, penalty, grads = gradients(
            architecture, method, params, reference, images, labels
        )
        updates, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        return Stepped(params, opt_state, loss, penalty)

    return Training(tx.init, step)
