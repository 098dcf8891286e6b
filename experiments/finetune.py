"""One cell of a study: one source, one method, one weight, on one target, all seeds."""

import dataclasses
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dtnh_jax import conflict_report
from experiments import delta, networks
from experiments.data import Dataset, few_shot
from experiments.methods import Method, method
from experiments.recipe import Recipe
from experiments.step import Reference
from experiments.train import Trace, accuracy, fit

# Each use of a seed's key has its own number, so that no two draw the same randomness.
HEAD, ORDER, TEST = 1, 2, 3


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """A target task for ``S`` seeds: each seed has its own few training images.

    Attributes:
      dataset: all images.
      train: int32 ``[S, n]``, indices of each seed's training images.
      test: int32 ``[S, m]``, indices of each seed's held-out images.
      validation: int32 ``[S, v]``, indices of the images by which to choose when to
        stop; ``None`` to train to the end.
    """

    dataset: Dataset
    train: np.ndarray
    test: np.ndarray
    validation: np.ndarray | None = None

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
      validation: accuracy on the validation images at each checkpoint, ``[P, S]``;
        ``None`` without such images.
      step: after how many steps the network was taken that ``accuracy`` is about: at
        the checkpoint that is best on average over seeds, the first of equals.
    """

    source: str
    method: str
    weight: float | None
    accuracy: np.ndarray
    groups: tuple[str, ...]
    trace: Trace
    seconds: float
    validation: np.ndarray | None = None
    step: int | None = None

    @property
    def rule(self) -> Method:
        return method(self.method)


def few_shot_target(
    dataset: Dataset,
    per_class: int,
    seeds: int,
    *,
    validation_per_class: int = 0,
    test: int | None = None,
) -> Target:
    """The target task for seeds 0, 1, ..., no image in two of its parts.

    Args:
      dataset: what to split.
      per_class: training images a class.
      seeds: how many splits.
      validation_per_class: validation images a class; 0 for none.
      test: at most so many test images; ``None`` for all that are left.

    Raises:
      InputError: if a class has too few images.
    """
    splits = [
        _split(dataset, per_class, validation_per_class, test, seed)
        for seed in range(seeds)
    ]
    train, validation, held_out = (np.stack(part) for part in zip(*splits, strict=True))
    chosen = validation if validation_per_class else None
    return Target(dataset, train, held_out, chosen)


def _split(dataset, per_class, validation_per_class, test, seed):
    drawn, left = few_shot(dataset, per_class + validation_per_class, seed)
    if not validation_per_class:
        train, validation = drawn, drawn[:0]
    else:
        order = np.argsort(dataset.labels[drawn], kind="stable")
        by_class = drawn[order].reshape(dataset.classes, -1)
        train = by_class[:, :per_class].ravel()
        validation = by_class[:, per_class:].ravel()
    if test is not None:
        left = np.random.default_rng([seed, TEST]).permutation(left)[:test]
    return train, validation, left


def from_scratch(architecture: networks.Spec, seeds: int) -> networks.Params:
    """Random weights, one set a seed: the source that has taught nothing."""
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
    return jax.vmap(architecture.init)(keys)


def finetune(
    architecture: networks.Spec,
    source: str,
    pretrained: networks.Params,
    method_name: str,
    weight: float | None,
    recipe: Recipe,
    target: Target,
    advanced: Callable[[float], None] = lambda _: None,
    channel_weights: dict[str, jax.Array] | None = None,
) -> Cell:
    """Fine-tunes pretrained networks, one a seed, and tests them on held-out images.

    A seed fixes the pretrained network, the training images, the new head and the order
    of the images: all methods see the same, so their differences can be taken by seed.
    Where the target has validation images, the networks are tested as they were at the
    checkpoint that was best on those.

    Args:
      architecture: of the networks.
      source: name of what they were pretrained on.
      pretrained: their parameters, with a leading axis of seeds; the head is replaced.
      method_name: a key of ``METHODS``.
      weight: λ; ``None`` for a method without a regularizer.
      recipe: steps, batch size, learning rate, optimizer.
      target: the task.
      advanced: called with the share of the work that was just done.
      channel_weights: what ``channel_importance`` gives; a method that needs them and
        gets none works them out.
    """
    began = time.perf_counter()
    rule = method(method_name)
    if rule.towards != "channels":
        channel_weights = None
    elif channel_weights is None:
        channel_weights = channel_importance(architecture, pretrained, target)
    architecture, start = _new_head(architecture, pretrained, target)
    best = _Best(architecture, target, recipe.crop)
    params, state, trace = fit(
        architecture,
        rule,
        recipe,
        start,
        Reference(networks.anchor(start), channel_weights),
        weight or 0.0,
        target.dataset,
        target.train,
        _keys(target, ORDER),
        advanced,
        best.checkpoint,
    )
    params = params if best.params is None else best.params
    right = accuracy(architecture, params, target.dataset, target.test, recipe.crop)
    groups = tuple(conflict_report(state)) if rule.towards else ()
    seconds = time.perf_counter() - began
    validation = np.stack(best.validation) if best.validation else None
    return Cell(
        source, method_name, weight, right, groups, trace, seconds, validation,
        best.step,
    )  # fmt: skip


def channel_importance(
    architecture: networks.Spec, pretrained: networks.Params, target: Target
) -> dict[str, jax.Array]:
    """DELTA's channel weights, by feature map, ``[S, channels]``; for every λ alike."""
    architecture, start = _new_head(architecture, pretrained, target)
    return delta.channel_weights(architecture, start, target.dataset, target.train)


def _new_head(
    architecture: networks.Spec, pretrained: networks.Params, target: Target
) -> tuple[networks.Spec, networks.Params]:
    """The pretrained bodies, each with its seed's new head for the target's classes."""
    architecture = dataclasses.replace(architecture, classes=target.dataset.classes)
    fresh = jax.vmap(architecture.init)(_keys(target, HEAD))
    return architecture, {**pretrained, "head": fresh["head"]}


def _keys(target: Target, use: int) -> jax.Array:
    """A random key for each seed."""
    keys = jax.vmap(jax.random.key)(jnp.arange(target.seeds))
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, use)


class _Best:
    """Remembers the parameters that were best on the validation images, if any."""

    def __init__(self, architecture: networks.Spec, target: Target, crop: int | None):
        self._architecture, self._target, self._crop = architecture, target, crop
        self.validation: list[np.ndarray] = []
        self.params: networks.Params | None = None
        self.step: int | None = None

    def checkpoint(self, step: int, params: networks.Params) -> None:
        members = self._target.validation
        if members is None:
            return
        shares = accuracy(
            self._architecture, params, self._target.dataset, members, self._crop
        )
        if all(shares.mean() > before.mean() for before in self.validation):
            self.params, self.step = params, step
        self.validation.append(shares)
