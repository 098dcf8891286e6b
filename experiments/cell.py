"""The task of all seeds, and one cell of a study: a method trained and tested on it."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtnh_jax import conflict_report
from experiments import networks
from experiments.data import Dataset, few_shot
from experiments.methods import Method
from experiments.recipe import Recipe
from experiments.training import delta
from experiments.training.evaluate import probabilities, right
from experiments.training.job import Job
from experiments.training.loop import Fitted, best_chunk, fit

# Each use of a seed's key has its own number, so that no two share their randomness.
HEAD, ORDER, TEST = 1, 2, 3
# Number of points that the curves of a cell are thinned to.
POINTS = 10


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """A target task for ``S`` seeds. Each seed has its own few training images.

    Attributes:
      dataset: all images.
      train: int32 ``[S, n]``, indices of each seed's training images.
      test: int32 ``[S, m]``, indices of each seed's held-out images.
      seeds: the seeds, which draw the images, their order and the new head.
      validation: int32 ``[S, v]``, indices of the images used for early stopping;
        ``None`` to train to the end.
    """

    dataset: Dataset
    train: np.ndarray
    test: np.ndarray
    seeds: range
    validation: np.ndarray | None = None

    def keys(self, use: int) -> jax.Array:
        """A random key for each seed."""
        keys = jax.vmap(jax.random.key)(jnp.asarray(self.seeds))
        return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, use)


def few_shot_target(
    dataset: Dataset,
    per_class: int,
    seeds: range,
    *,
    validation_per_class: int = 0,
    test: int | None = None,
) -> Target:
    """Splits a data set for each seed, with disjoint parts.

    Args:
      dataset: the data set to split.
      per_class: training images per class.
      seeds: the seeds, one split each.
      validation_per_class: validation images per class; 0 for none.
      test: maximum number of test images; ``None`` for all remaining images.

    Raises:
      InputError: if a class has too few images.
    """

    def split(seed: int) -> tuple[np.ndarray, ...]:
        drawn, left = few_shot(dataset, per_class + validation_per_class, seed)
        by_class = drawn.reshape(dataset.classes, -1)
        train, validation = np.split(by_class, [per_class], axis=1)
        if test is not None:
            left = np.random.default_rng([seed, TEST]).permutation(left)[:test]
        return train.ravel(), validation.ravel(), left

    parts = zip(*map(split, seeds), strict=True)
    train, validation, held_out = map(np.stack, parts)
    return Target(
        dataset, train, held_out, seeds, validation if validation_per_class else None
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Pretrained networks, one per seed, each with its seed's new head, and a target.

    A seed fixes the pretrained network, the training images, their order and the new
    head. All methods see the same, so their results can be paired by seed.

    Attributes:
      spec: the networks' spec, with the target's classes.
      params: parameters; every array has a leading axis of seeds.
      target: the target task.
    """

    spec: networks.Spec
    params: networks.Params
    target: Target

    @functools.cached_property
    def channel_weights(self) -> dict[str, jax.Array]:
        """The channel weights of DELTA, which are slow to compute."""
        members = self.target.dataset, self.target.train
        return delta.channel_weights(self.spec, self.params, *members)

    def job(self, method: Method, weight: float | None, recipe: Recipe) -> Job:
        """The job of fine-tuning by one method; ``weight`` is λ or ``None``."""
        target = self.target
        return Job(
            self.spec, method, recipe, weight or 0.0, self.params, target.dataset,
            target.train, target.keys(ORDER),
            self.channel_weights if "delta" in method.regularizers else None,
            target.validation,
        )  # fmt: skip


def pair(spec: networks.Spec, pretrained: networks.Params, target: Target) -> Pair:
    """Gives pretrained networks new heads for the target's classes."""
    spec = dataclasses.replace(spec, classes=target.dataset.classes)
    head = jax.vmap(spec.init)(target.keys(HEAD))["head"]
    return Pair(spec, {**pretrained, "head": head}, target)


def train(
    job: Job, target: Target, advanced: Callable[[float], None] = lambda _: None
) -> dict[str, Any]:
    """Trains and tests; returns the cell's record: ``summary`` and the seconds."""
    began = time.perf_counter()
    fitted = fit(job, advanced)
    found = probabilities(
        job.spec, fitted.params, job.dataset, target.test, job.recipe.crop
    )
    accuracy = right(found, job.dataset, target.test)
    record = summary(fitted, accuracy)
    return {**record, "seconds": round(time.perf_counter() - began, 2)}


def summary(fitted: Fitted, accuracy: np.ndarray) -> dict[str, Any]:
    """Summarizes a run as a JSON object.

    Args:
      fitted: the run.
      accuracy: test accuracy of each seed, a fraction.

    Returns:
      ``accuracy`` and ``validation`` in percent, by seed, at ``step``; ``loss`` in
      nats, ``cosine`` and ``pull`` by group, averaged over seeds and neighbouring
      steps.
    """
    record: dict[str, Any] = {
        "step": fitted.step,
        "accuracy": _rounded(100 * accuracy),
        "loss": _thinned(fitted.trace.loss),
    }
    if fitted.validation is not None:
        best = fitted.validation[best_chunk(fitted.validation)]
        record["validation"] = _rounded(100 * best)
    if fitted.trace.cosine is not None:
        record["groups"] = list(conflict_report(fitted.opt_state))
        record["conflict_rate"] = round(float(fitted.trace.conflict.mean()), 4)
        record["cosine"] = _thinned(fitted.trace.cosine)
        record["pull"] = _thinned(fitted.trace.pull)
    return record


def _thinned(values: np.ndarray) -> list:
    """Averages ``[S, T, ...]`` over seeds, and over ``POINTS`` parts of the steps."""
    steps = values.mean(axis=0)
    parts = np.array_split(steps, min(POINTS, len(steps)))
    return _rounded(np.stack([part.mean(axis=0) for part in parts]))


def _rounded(values: np.ndarray) -> list:
    return np.round(np.asarray(values, np.float64), 4).tolist()
