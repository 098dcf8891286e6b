"""A grid on photographs: a network that knows ImageNet, or the upper part of it."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp

from experiments.data import VARIANTS, Dataset, photographs, with_test_split
from experiments.errors import unknown
from experiments.grid.config import Grid
from experiments.networks import Params
from experiments.networks.upper import Upper, activations
from experiments.pretrain import load_or_pretrain
from experiments.progress import Reporter

IMAGENET = "imagenet"


@dataclasses.dataclass(frozen=True)
class PhotographGrid(Grid):
    """Photographs go once through the frozen part, if any; the rest is fine-tuned.

    A source is ``"imagenet"``, or a data set that the upper part, begun with ImageNet's
    weights, was trained on after that: ``"cifar10:random-labels"``.

    Attributes:
      side: height and width of the photographs in pixels.
      sets: what the names of data sets stand for: name and split for
        ``data.photographs``. The images of that split are divided by seed into those to
        train, to validate and to test on; those of a second split, where one is named,
        are the ones to test on.
    """

    architecture: Upper
    side: int = 64
    sets: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def shortened(self) -> Self:
        """Also with small photographs, and a network whose weights a package brings."""
        side = min(self.side, 64)
        crop = self.recipe.crop and side * self.recipe.crop // self.side
        quick = super().shortened()
        return dataclasses.replace(
            quick,
            architecture=dataclasses.replace(
                self.architecture, network="efficientnet-lite0"
            ),
            side=side,
            recipe=dataclasses.replace(quick.recipe, crop=crop),
            pretraining=dataclasses.replace(quick.pretraining, batch_size=8, crop=crop),
            batch_sizes=(8,),
        )

    def check_source(self, name: str) -> None:
        base, _, variant = name.partition(":")
        if base not in (IMAGENET, *dict(self.sets)):
            raise unknown("source", base, (IMAGENET, *dict(self.sets)))
        if variant and variant not in VARIANTS:
            raise unknown("variant of a data set", variant, VARIANTS)

    def dataset(self, name: str, cache: Path, reporter: Reporter) -> Dataset:
        base, _, variant = name.partition(":")
        if base not in dict(self.sets):
            raise unknown("data set", base, dict(self.sets))
        stored, *splits = dict(self.sets)[base]
        parts = (photographs(stored, x, self.side, warn=reporter.warn) for x in splits)
        pixels = functools.reduce(with_test_split, parts)
        dataset = dataclasses.replace(pixels, name=base)
        start = self.architecture.start
        if start is not None:
            images = self._below(start, pixels, cache, reporter)
            dataset = dataclasses.replace(dataset, images=images)
        return VARIANTS[variant](dataset) if variant else dataset

    def _below(
        self, start: str, pixels: Dataset, cache: Path, reporter: Reporter
    ) -> Any:
        network = self.architecture.network
        with reporter.task(f"{pixels.name}: frozen part", 0) as advanced:
            return activations(network, start, pixels.images, cache, advanced)

    def networks(
        self, source: str, cache: Path, reporter: Reporter
    ) -> tuple[str, Params]:
        body = self.architecture.pretrained()
        if source == IMAGENET:
            # There is one such network: what varies by seed is all the rest.
            return "ImageNet", jax.tree.map(
                lambda x: jnp.broadcast_to(x, (self.seeds, *x.shape)), body
            )
        dataset = self.dataset(source, cache, reporter)
        architecture = dataclasses.replace(self.architecture, classes=dataset.classes)
        with reporter.task(f"{dataset.name}: pretraining", 0) as advanced:
            made = load_or_pretrain(
                architecture, self.pretraining, dataset, self.seeds, cache,
                reporter.warn, advanced, body,
            )  # fmt: skip
        return f"ImageNet, then {dataset.name}", made.params
