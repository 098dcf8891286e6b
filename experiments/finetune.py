"""One cell of a study: one source, one method, one weight, on one target, all seeds."""

import dataclasses
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dtnh_jax import conflict_report
from experiments import models
from experiments.data import Dataset, few_shot
from experiments.methods import Method, method
from experiments.recipe import Recipe
from experiments.train import Trace, accuracy, fit

# Each use of a seed's key has its own number, so that no two draw the same randomness.
HEAD, ORDER = 1, 2


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """A target task for ``S`` seeds: each seed has its own few training images.

    Attributes:
      dataset: all images.
      train: int32 ``[S, n]``, indices of each seed's training images.
      test: int32 ``[S, m]``, indices of each seed's held-out images: all the others.
    """

    dataset: Dataset
    train: np.ndarray
    test: np.ndarray

    @property
    def seeds(self) -> int:
        return len(self.train)


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """What one cell came to; ``S`` seeds, ``T`` steps, ``K`` groups.

    Attributes:
      source: name of what the networks were pretrained on.
      method: key in ``METHODS``.
      weight: λ; ``None`` for a method without a regularizer.
      accuracy: share of the held-out images classified rightly, float32 ``[S]``.
      groups: names of the groups in which conflict was judged; empty without one.
      trace: loss, cosine and conflict of every step.
      seconds: wall time, compilation included.
    """

    source: str
    method: str
    weight: float | None
    accuracy: np.ndarray
    groups: tuple[str, ...]
    trace: Trace
    seconds: float

    @property
    def rule(self) -> Method:
        return method(self.method)


def few_shot_target(dataset: Dataset, per_class: int, seeds: int) -> Target:
    """The target task with ``per_class`` training images a class, seeds 0, 1, ..."""
    splits = [few_shot(dataset, per_class, seed) for seed in range(seeds)]
    train, test = (np.stack(part) for part in zip(*splits, strict=True))
    return Target(dataset, train, test)


def from_scratch(architecture: models.Architecture, seeds: int) -> models.Params:
    """Random weights, one set a seed: the source that has taught nothing."""
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
    return jax.vmap(lambda key: models.init(architecture, key))(keys)


def finetune(
    architecture: models.Architecture,
    source: str,
    pretrained: models.Params,
    method_name: str,
    weight: float | None,
    recipe: Recipe,
    target: Target,
    advanced: Callable[[float], None] = lambda _: None,
) -> Cell:
    """Fine-tunes pretrained networks, one a seed, and tests them on held-out images.

    A seed fixes the pretrained network, the training images, the new head and the order
    of the images: all methods see the same, so their differences can be taken by seed.

    Args:
      architecture: of the networks.
      source: name of what they were pretrained on.
      pretrained: their parameters, with a leading axis of seeds; the head is replaced.
      method_name: a key of ``METHODS``.
      weight: λ; ``None`` for a method without a regularizer.
      recipe: steps, batch size, learning rate, optimizer.
      target: the task.
      advanced: called with the share of the work that was just done.
    """
    began = time.perf_counter()
    rule = method(method_name)
    architecture = dataclasses.replace(architecture, classes=target.dataset.classes)
    keys = jax.vmap(jax.random.key)(jnp.arange(target.seeds))
    fold = jax.vmap(jax.random.fold_in, in_axes=(0, None))
    fresh = jax.vmap(lambda key: models.init(architecture, key))(fold(keys, HEAD))
    params, state, trace = fit(
        architecture,
        rule,
        recipe,
        {**pretrained, "head": fresh["head"]},
        models.anchor(pretrained),
        weight or 0.0,
        target.dataset,
        target.train,
        fold(keys, ORDER),
        advanced,
    )
    right = accuracy(
        architecture,
        params,
        jnp.asarray(target.dataset.images),
        jnp.asarray(target.dataset.labels),
        jnp.asarray(target.test),
    )
    groups = tuple(conflict_report(state)) if rule.towards else ()
    seconds = time.perf_counter() - began
    return Cell(source, method_name, weight, np.asarray(right), groups, trace, seconds)
