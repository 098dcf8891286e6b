"""The channel weights of DELTA: how important each channel is to the target task.

DELTA distills feature maps and weights each channel by its importance. The weights are
a softmax over the channels of a map. Its logits are the increase of the empirical loss
when that channel of the pretrained network is set to zero. The loss is that of a new
head trained on the features of the frozen body.

There are two differences from the paper. The softmax is multiplied by the number of
channels, so that the mean weight is one and the same range of λ suits DELTA and KD. And
all feature maps of the network are used, not only those of selected layers.

References:
  Li et al., `DELTA: Deep Learning Transfer using Feature Map with Attention for
  Convolutional Networks <https://arxiv.org/abs/1901.09229>`_, 2019
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import networks
from experiments.data import Dataset
from experiments.training.step import cross_entropy

# Enough for the training loss to level off, with Adam on the whole training set.
HEAD_STEPS, HEAD_LEARNING_RATE = 200, 0.01


def channel_weights(
    spec: networks.Spec,
    params: networks.Params,
    dataset: Dataset,
    members: np.ndarray,
) -> dict[str, jax.Array]:
    """The channel weights by feature map, float32 ``[S, channels]`` with mean one.

    Args:
      spec: the networks' spec.
      params: the pretrained body and a new head; every array has a leading axis of
        ``S``.
      dataset: the images that ``members`` indexes.
      members: int32 ``[S, n]``, each seed's training images.
    """
    images, labels = dataset.images[members], dataset.labels[members]
    rises = jax.vmap(functools.partial(_loss_rises, spec))(params, images, labels)
    return {
        name: rise.shape[-1] * jax.nn.softmax(rise, axis=-1)
        for name, rise in rises.items()
    }


@functools.partial(jax.jit, static_argnames="spec")
def _loss_rises(
    spec: networks.Spec, params: networks.Params, images: Any, labels: jax.Array
) -> dict[str, jax.Array]:
    """One seed's increase of the loss, in nats, without each channel."""
    params = {**params, "head": _trained_head(spec, params, images, labels)}
    network = spec.build(params)
    open_gates = {
        name: jnp.ones(x.shape[-1]) for name, x in network.features(images).items()
    }

    def loss(gates):
        return cross_entropy(networks.logits(network, images, gates), labels)

    def loss_without(name, channel):
        return loss({**open_gates, name: open_gates[name].at[channel].set(0.0)})

    return {
        name: jax.lax.map(functools.partial(loss_without, name), jnp.arange(gates.size))
        - loss(open_gates)
        for name, gates in open_gates.items()
    }


def _trained_head(spec, params, images, labels) -> Any:
    features = networks.last(spec.build(params).features(images))

    def loss(head):
        network = spec.build({**params, "head": head})
        return cross_entropy(network.head(features), labels)

    tx = optax.adam(HEAD_LEARNING_RATE)

    def step(carry, _):
        head, state = carry
        updates, state = tx.update(jax.grad(loss)(head), state)
        return (optax.apply_updates(head, updates), state), None

    start = params["head"], tx.init(params["head"])
    (head, _), _ = jax.lax.scan(step, start, length=HEAD_STEPS)
    return head
