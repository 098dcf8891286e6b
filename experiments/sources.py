"""What the names in a study stand for: data sets, and networks that were pretrained."""

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
# Of photographs in a quick run, at most, in pixels.
QUICK_SIDE = 64


@dataclasses.dataclass(frozen=True)
class SmallImages:
    """Small grey images, and a small network that is pretrained here from scratch.

    A source is a data set that ``data.load`` knows, or ``"random"``: random weights.

    Attributes:
      side: height and width of the images in pixels.
    """

    side: int = 8

    @property
    def spec(self) -> Spec:
        return Architecture(side=self.side)

    def quick(self) -> Self:
        return self

    def check_source(self, name: str) -> None:
        """Raises an ``InputError`` where there is no such source."""
        if name != RANDOM:
            load(name, self.side)

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
    """Photographs, and a network that knows ImageNet, or the upper part of one.

    Where the lower part is frozen, photographs go through it once. A source is
    ``"imagenet"``, or a data set that the upper part, begun with ImageNet's weights,
    was trained on after that: ``"cifar10:random-labels"``.

    Attributes:
      spec: of the network.
      side: height and width of the photographs in pixels.
      sets: what the names of data sets stand for: name and split for
        ``data.photographs``. The images of that split are divided by seed into those to
        train, to validate and to test on; those of a second split, where one is named,
        are the ones to test on.
    """

    spec: Upper
    side: int = 64
    sets: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def quick(self) -> Self:
        """With small photographs, and the network whose weights a package brings."""
        spec = dataclasses.replace(self.spec, network="efficientnet-lite0")
        return dataclasses.replace(self, spec=spec, side=min(self.side, QUICK_SIDE))

    def check_source(self, name: str) -> None:
        """Raises an ``InputError`` where there is no such source."""
        base, _, variant = name.partition(":")
        if base not in (IMAGENET, *dict(self.sets)):
            raise unknown("source", base, (IMAGENET, *dict(self.sets)))
        if variant and variant not in VARIANTS:
            raise unknown("variant of a data set", variant, VARIANTS)

    def dataset(self, name: str, cache: Path, reporter: Reporter) -> Dataset:
        """The photographs of a data set, as the network takes them."""
        base, _, variant = name.partition(":")
        if base not in dict(self.sets):
            raise unknown("data set", base, dict(self.sets))
        stored, *splits = dict(self.sets)[base]
        parts = (photographs(stored, x, self.side, warn=reporter.warn) for x in splits)
        pixels = functools.reduce(with_test_split, parts)
        dataset = dataclasses.replace(pixels, name=base)
        if self.spec.start is not None:
            with reporter.task(f"{base}: frozen part", 0) as advanced:
                images: Any = activations(
                    self.spec.network, self.spec.start, pixels.images, cache, advanced
                )
            dataset = dataclasses.replace(dataset, images=images)
        return VARIANTS[variant](dataset) if variant else dataset

    def pretrained(
        self, name: str, recipe: Recipe, seeds: range, cache: Path, reporter: Reporter
    ) -> tuple[str, Params]:
        """What tables call a source, and its networks, one per seed."""
        body = self.spec.pretrained()
        if name == IMAGENET:  # there is one such network: all else varies by seed
            return "ImageNet", jax.tree.map(
                lambda x: jnp.broadcast_to(x, (len(seeds), *x.shape)), body
            )
        dataset = self.dataset(name, cache, reporter)
        params = pretrain(self.spec, recipe, dataset, seeds, cache, reporter, body)
        return f"ImageNet, then {dataset.name}", params
