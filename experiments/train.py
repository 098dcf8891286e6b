"""The one training loop: pretraining and every method of fine-tuning go through it.

All seeds of a cell train at once: a ``lax.scan`` over steps, vmapped over seeds. A run
is cut into chunks of equal length, so that there is one compilation and still something
to show while it goes.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dtnh_jax import DtnhState, feature_distillation, pair_value_and_grad
from experiments import models
from experiments.data import Dataset
from experiments.methods import Method
from experiments.recipe import Recipe, batch_order

# A run is shown, and looked through for NaN, about this many times.
CHUNKS = 10


class Trace(NamedTuple):
    """What is kept of every step, for ``S`` seeds, ``T`` steps and ``K`` groups.

    Attributes:
      loss: the empirical loss on the step's batch before its update, ``[S, T]``.
      cosine: between the two gradients, ``[S, T, K]``; ``None`` without a regularizer.
      conflict: where that cosine is negative, bool ``[S, T, K]``, or ``None``.
    """

    loss: Any
    cosine: Any
    conflict: Any


def empirical_loss(
    architecture: models.Architecture,
    params: models.Params,
    images: jax.Array,
    labels: jax.Array,
) -> jax.Array:
    """Mean cross-entropy in nats, a scalar."""
    return cross_entropy(models.build(architecture, params)(images), labels)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over the batch in nats, a scalar, of logits ``[n, classes]``."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean()


def gradients(
    architecture: models.Architecture,
    method: Method,
    params: models.Params,
    pretrained: Any,
    images: jax.Array,
    labels: jax.Array,
) -> tuple[jax.Array, Any]:
    """The empirical loss, and what the method's chain takes: gradients, or a pair."""
    if method.towards != "features":
        differentiate = jax.value_and_grad(empirical_loss, argnums=1)
        return differentiate(architecture, params, images, labels)
    body = {**pretrained, "head": params["head"]}
    teacher = models.build(architecture, body).features(images)

    def losses(params):
        network = models.build(architecture, params)
        features = network.features(images)
        loss = cross_entropy(network.head(features["dense"]), labels)
        return loss, feature_distillation(features, teacher)

    (loss, _), pair = pair_value_and_grad(losses)(params)
    return loss, pair


def _conflict(state: Any) -> tuple[jax.Array, jax.Array] | tuple[None, None]:
    """The last step's cosine and conflict of every group, ``[K]`` each."""
    leaves = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, DtnhState))
    for leaf in leaves:
        if isinstance(leaf, DtnhState):
            return leaf.conflict.cosine, leaf.conflict.cosine < 0
    return None, None


@functools.partial(jax.jit, static_argnames=("architecture", "method", "recipe"))
def _advance(
    architecture,
    method,
    recipe,
    params,
    state,
    pretrained,
    weight,
    images,
    labels,
    order,
):
    """Runs one chunk for every seed: new parameters, new state, and its ``Trace``."""

    def one_seed(params, state, pretrained, order):
        tx = method.transformation(pretrained, weight, recipe)

        def step(carry, batch):
            params, state = carry
            loss, grads = gradients(
                architecture, method, params, pretrained, images[batch], labels[batch]
            )
            updates, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), Trace(loss, *_conflict(state))

        (params, state), trace = jax.lax.scan(step, (params, state), order)
        return params, state, trace

    return jax.vmap(one_seed)(params, state, pretrained, order)


def fit(
    architecture: models.Architecture,
    method: Method,
    recipe: Recipe,
    params: models.Params,
    pretrained: Any,
    weight: float,
    dataset: Dataset,
    members: np.ndarray,
    keys: jax.Array,
    advanced: Callable[[float], None] = lambda _: None,
) -> tuple[models.Params, Any, Trace]:
    """Trains ``S`` networks at once, one a seed.

    Args:
      architecture: of the networks.
      method: how the regularizer, if any, joins the empirical gradient.
      recipe: steps, batch size, learning rate, optimizer.
      params: where each seed starts; every array has a leading axis of ``S``.
      pretrained: what ``method`` pulls to, shaped alike, ``None`` for the head.
      weight: λ.
      dataset: the images that ``members`` points into.
      members: int32 ``[S, n]``, each seed's training images.
      keys: ``[S]`` random keys, for each seed's order of the images.
      advanced: called after every chunk with the share of the run that it was.

    Returns:
      The trained parameters, the optimizer's last state, and the ``Trace`` as NumPy
      arrays.

    Raises:
      FloatingPointError: as soon as a loss is not finite; says where.
    """
    weight_array = jnp.float32(weight)
    order = jax.vmap(functools.partial(batch_order, recipe=recipe))(
        keys, jnp.asarray(members)
    )
    state = jax.vmap(
        lambda start, point: method.transformation(point, weight_array, recipe).init(
            start
        )
    )(params, pretrained)
    images, labels = jnp.asarray(dataset.images), jnp.asarray(dataset.labels)
    chunks = max(n for n in range(1, CHUNKS + 1) if recipe.steps % n == 0)
    traces = []
    for i, chunk in enumerate(jnp.split(order, chunks, axis=1)):
        params, state, trace = _advance(
            architecture, method, recipe, params, state, pretrained, weight_array,
            images, labels, chunk,
        )  # fmt: skip
        traces.append(jax.device_get(trace))
        bad = np.argwhere(~np.isfinite(traces[-1].loss))
        if bad.size:
            step = i * chunk.shape[1] + bad[:, 1].min()
            raise FloatingPointError(
                f"the loss of {method.label} (λ = {weight:g}, {recipe.optimizer}, "
                f"learning rate {recipe.learning_rate:g}) on {dataset.name} is not "
                f"finite at step {step}; a lower learning rate or λ may help"
            )
        advanced(1 / chunks)
    whole = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *traces)
    return params, state, whole


@functools.partial(jax.jit, static_argnames="architecture")
def accuracy(
    architecture: models.Architecture,
    params: models.Params,
    images: jax.Array,
    labels: jax.Array,
    members: jax.Array,
) -> jax.Array:
    """The share of right answers, float32 ``[S]``, of ``S`` networks on their images.

    Args:
      architecture: of the networks.
      params: every array has a leading axis of ``S``.
      images: float32 ``[N, side, side, 1]``.
      labels: int32 ``[N]``.
      members: int32 ``[S, n]``, the images that each network is judged on.
    """

    def one_seed(arguments):
        params, members = arguments
        logits = models.build(architecture, params)(images[members])
        return jnp.mean(logits.argmax(axis=-1) == labels[members])

    # One seed after the other: all at once would hold gigabytes of patches.
    return jax.lax.map(one_seed, (params, members))
