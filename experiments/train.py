"""The training loop of the studies: pretraining and every method go through it.

All seeds of a cell train at once: a ``lax.scan`` over steps, vmapped over seeds. A run
is cut into chunks of equal length, so that there is one compilation and still something
to show while it goes. ``trainer`` has a loop of its own, for one network over many
devices; the step that both repeat is ``step.training``.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import augment, networks
from experiments.data import Dataset
from experiments.methods import Method
from experiments.recipe import Recipe, batch_order
from experiments.step import CROP, Reference, training

# A run is shown, and looked through for NaN, about this many times.
CHUNKS = 10
# Images that are classified at once.
EVALUATED = 500


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


def _conflict(state: Any) -> tuple[jax.Array, jax.Array] | tuple[None, None]:
    """The last step's cosine and conflict of every group, ``[K]`` each."""
    found: Any = optax.tree.get(state, "DtnhState", None)
    if found is None:
        return None, None
    return found.conflict.cosine, found.conflict.cosine < 0


@functools.partial(jax.jit, static_argnames=("architecture", "method", "recipe"))
def _advance(
    architecture,
    method,
    recipe,
    params,
    state,
    reference,
    weight,
    learning_rate,
    images,
    labels,
    order,
    keys,
):
    """Runs one chunk for every seed: new parameters, new state, and its ``Trace``."""

    def one_seed(params, state, reference, order, keys):
        train = training(architecture, method, recipe, reference, weight, learning_rate)

        def step(carry, inputs):
            batch, key = inputs
            done = train.step(*carry, images[batch], labels[batch], key)
            trace = Trace(done.loss, *_conflict(done.opt_state))
            return (done.params, done.opt_state), trace

        (params, state), trace = jax.lax.scan(step, (params, state), (order, keys))
        return params, state, trace

    return jax.vmap(one_seed)(params, state, reference, order, keys)


def fit(
    architecture: networks.Spec,
    method: Method,
    recipe: Recipe,
    params: networks.Params,
    reference: Reference,
    weight: float,
    dataset: Dataset,
    members: np.ndarray,
    keys: jax.Array,
    advanced: Callable[[float], None] = lambda _: None,
    checkpoint: Callable[[int, networks.Params], None] = lambda step, params: None,
) -> tuple[networks.Params, Any, Trace]:
    """Trains ``S`` networks at once, one a seed.

    Args:
      architecture: of the networks.
      method: how the regularizer, if any, joins the empirical gradient.
      recipe: steps, batch size, learning rate, optimizer.
      params: where each seed starts; every array has a leading axis of ``S``.
      reference: what ``method`` pulls to, every array with a leading axis of ``S``.
      weight: λ.
      dataset: the images that ``members`` points into; they are only indexed, so that
        uint8 images, or activations of a frozen part, serve if the network takes them.
      members: int32 ``[S, n]``, each seed's training images.
      keys: ``[S]`` random keys, for each seed's order of the images.
      advanced: called after every chunk with the share of the run that it was.
      checkpoint: called after every chunk with the steps so far and the parameters.

    Returns:
      The trained parameters, the optimizer's last state, and the ``Trace`` as NumPy
      arrays.

    Raises:
      FloatingPointError: as soon as a loss is not finite; says where.
    """
    scalars = jnp.float32(weight), jnp.float32(recipe.learning_rate)
    # The rate is traced, and left out here: trials of it share one compilation.
    fixed = dataclasses.replace(recipe, learning_rate=1.0)
    order = jax.vmap(functools.partial(batch_order, recipe=recipe))(
        keys, jnp.asarray(members)
    )
    state = jax.vmap(
        lambda start, point: training(
            architecture, method, fixed, point, *scalars
        ).init(start)
    )(params, reference)
    images, labels = jnp.asarray(dataset.images), jnp.asarray(dataset.labels)
    chunks = max(n for n in range(1, CHUNKS + 1) if recipe.steps % n == 0)
    traces = []
    # Of their own, so that the order of the images does not depend on the crop.
    crop_keys = jax.vmap(lambda key: jax.random.split(key, recipe.steps))(
        jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, CROP)
    )
    parts = (jnp.split(x, chunks, axis=1) for x in (order, crop_keys))
    for i, (chunk, chunk_keys) in enumerate(zip(*parts, strict=True)):
        params, state, trace = _advance(
            architecture, method, fixed, params, state, reference, *scalars, images,
            labels, chunk, chunk_keys,
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
        checkpoint((i + 1) * chunk.shape[1], params)
        advanced(1 / chunks)
    whole = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *traces)
    return params, state, whole


@functools.partial(jax.jit, static_argnames="architecture")
def _right(
    architecture: networks.Spec,
    params: networks.Params,
    seed: int,
    images: jax.Array,
    labels: jax.Array,
) -> jax.Array:
    """How many answers of one seed's network are right."""
    network = architecture.build(jax.tree.map(lambda x: x[seed], params))
    answers = networks.logits(network, images).argmax(axis=-1)
    return jnp.sum(answers == labels)


def accuracy(
    architecture: networks.Spec,
    params: networks.Params,
    dataset: Dataset,
    members: np.ndarray,
    crop: int | None = None,
) -> np.ndarray:
    """The share of right answers, float32 ``[S]``, of ``S`` networks on their images.

    Args:
      architecture: of the networks.
      params: every array has a leading axis of ``S``.
      dataset: the images that ``members`` points into.
      members: int32 ``[S, n]``, the images that each network is judged on.
      crop: side in pixels of the middle part that it sees; ``None`` for all.
    """

    def seen(rows):
        images = dataset.images[rows]
        return images if crop is None else augment.middle(images, crop)

    seeds, n = members.shape
    # One network and some images at a time: all at once would hold gigabytes.
    parts = np.array_split(members, -(-n // EVALUATED), axis=1)
    right = [
        [
            _right(
                architecture, params, seed, seen(part[seed]), dataset.labels[part[seed]]
            )
            for part in parts
        ]
        for seed in range(seeds)
    ]
    return np.asarray(jax.device_get(right)).sum(axis=1, dtype=np.float32) / n
