"""Resolves the names in a study to data sets and pretrained networks."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp

from experiments.data import VARIANTS, Dataset, load, photographs, with_test_split
from experiments.errors import unknown
from experiments.networks import Architecture, Params, Spec, Upper, activations
from experiments.pretrain import pretrain
from experiments.progress import Reporter
from experiments.recipe import Recipe

RANDOM, IMAGENET = "random", "imagenet"
# Maximum side of photographs in a quick run, in pixels.
QUICK_SIDE = 64


@dataclasses.dataclass(frozen=True)
class SmallImages:
    """Small gray images, and a small network that is pretrained here from scratch.

    A source is a data set of ``data.load``, or ``"random"`` for random weights.

    Attributes:
      side: height and width of the images in pixels.
    """

    side: int = 8

    @property
    def spec(self) -> Spec:
        return Architecture(side=self.side)

    def quick(self) -> Self:
        return self

    def check_source(self, name: str, cache: Path, reporter: Reporter) -> None:
        """Raises an ``InputError`` if there is no such source, or it cannot be read."""
        if name != RANDOM:
            self.dataset(name, cache, reporter)

    def dataset(self, name: str, cache: Path, reporter: Reporter) -> Dataset:
        """The images of a data set, as the network takes them."""
        del cache, reporter
        return load(name, self.side)

    def pretrained(
        self, name: str, recipe: Recipe, seeds: range, cache: Path, reporter: Reporter
    ) -> tuple[str, Params]:
        """What tables call a source, and its networks, one per seed."""
        if name == RANDOM:
            keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
            return "random weights", jax.vmap(self.spec.init)(keys)
        dataset = load(name, self.side)
        return dataset.name, pretrain(
            self.spec, recipe, dataset, seeds, cache, reporter
        )


@dataclasses.dataclass(frozen=True)
class Photographs:
    """Photographs, and a network pretrained on ImageNet, or the upper part of one.

    If the lower part is frozen, photographs go through it only once. A source is
    ``"imagenet"``, or a data set such as ``"cifar10:random-labels"``, on which the
    upper part is trained further from its ImageNet weights.

    Attributes:
      spec: the network.
      side: height and width of the photographs in pixels.
      sets: pairs of a name, and a name and one or two splits for ``data.photographs``.
        Each seed divides the first split into training, validation and test images. If
        there is a second split, its images are the test images.
    """

    spec: Upper
    side: int = 64
    sets: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def quick(self) -> Self:
        """Uses small photographs, and the network whose weights come in a package."""
        spec = dataclasses.replace(self.spec, network="efficientnet-lite0")
        return dataclasses.replace(self, spec=spec, side=min(self.side, QUICK_SIDE))

    def check_source(self, name: str, cache: Path, reporter: Reporter) -> None:
        """Raises an ``InputError`` if there is no such source, or it cannot be read."""
        if name != IMAGENET:
            self.dataset(name, cache, reporter)

    def dataset(self, name: str, cache: Path, reporter: Reporter) -> Dataset:
        """The photographs of a data set, as the network takes them."""
        base, _, variant = name.partition(":")
        if base not in dict(self.sets):
            raise unknown("data set", base, dict(self.sets))
        if variant and variant not in VARIANTS:
            raise unknown("variant of a data set", variant, VARIANTS)
        stored, *splits = dict(self.sets)[base]
        parts = (photographs(stored, x, self.side, warn=reporter.warn) for x in splits)
        pixels = functools.reduce(with_test_split, parts)
        dataset = dataclasses.replace(pixels, name=base)
        if variant:
            dataset = VARIANTS[variant](dataset)
        if self.spec.start is None:
            return dataset
        with reporter.task(f"{base}: frozen part", 0) as advanced:
            images: Any = activations(
                self.spec.network, self.spec.start, dataset.images, cache, advanced
            )
        return dataclasses.replace(dataset, images=images)

    def pretrained(
        self, name: str, recipe: Recipe, seeds: range, cache: Path, reporter: Reporter
    ) -> tuple[str, Params]:
        """What tables call a source, and its networks, one per seed."""
        body = self.spec.pretrained()
        if name == IMAGENET:  # there is only one such network, shared by all seeds
            return "ImageNet", jax.tree.map(
                lambda x: jnp.broadcast_to(x, (len(seeds), *x.shape)), body
            )
        dataset = self.dataset(name, cache, reporter)
        params = pretrain(self.spec, recipe, dataset, seeds, cache, reporter, body)
        return f"ImageNet, then {dataset.name}", params
