"""What a grid is made of."""

import abc
import dataclasses
from pathlib import Path
from typing import Self

from experiments.data import Dataset, load
from experiments.errors import InputError
from experiments.methods import method
from experiments.networks import Architecture, Params, Spec
from experiments.pretrain import load_or_pretrain
from experiments.progress import Reporter
from experiments.recipe import Recipe
from experiments.train import CHUNKS


@dataclasses.dataclass(frozen=True)
class Grid(abc.ABC):
    """Data sets x sources x methods x batch sizes x trials, each with all seeds.

    Every method has the same number of trials: one without a regularizer has each rate
    of ``learning_rates``, one with a regularizer has each λ of ``weights``, at the rate
    that plain fine-tuning chose for the same pair and batch size. The step at which
    training stops is chosen too, among ten equally far apart. All by validation
    accuracy, the mean over seeds.

    Attributes:
      pairs: source and target, names as ``data.load`` knows them.
      methods: keys of ``METHODS``.
      batch_sizes: images in an update; all are trained for equally many updates.
      weights: λ.
      learning_rates: for the methods without λ; as many as there are weights.
      recipe: of fine-tuning, but for the batch size; its learning rate is for methods
        with a λ where plain fine-tuning is not among the methods, or always diverged.
      pretraining: the recipe for the sources.
      architecture: of the networks.
      seeds: independent repetitions: pretraining, images, head and order vary.
      per_class: training images a class of the target.
      test: held-out images that are tested on, at most.
      validation_per_class: images a class to validate on; ``None`` for as many as
        there are to train on.

    Raises:
      InputError: if these do not fit together.
    """

    pairs: tuple[tuple[str, str], ...]
    methods: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    weights: tuple[float, ...]
    learning_rates: tuple[float, ...]
    recipe: Recipe
    pretraining: Recipe
    architecture: Spec
    seeds: int
    per_class: int
    test: int
    validation_per_class: int | None = None

    def __post_init__(self):
        for field in ("pairs", "methods", "batch_sizes", "weights"):
            if not getattr(self, field):
                raise InputError(f"{field} of a grid must name at least one")
        for name in self.methods:
            method(name)
        if min(self.weights) <= 0:
            raise InputError(f"λ must be positive, got {min(self.weights):g}")
        if len(self.learning_rates) != len(self.weights):
            raise InputError(
                "every method is to have the same number of trials, got "
                f"{len(self.weights)} weights and {len(self.learning_rates)} learning "
                "rates"
            )
        if self.seeds < 2:
            raise InputError(f"seeds must be at least 2, got {self.seeds}")
        if self.recipe.steps % CHUNKS:
            raise InputError(
                f"steps must be a multiple of {CHUNKS}, the points at which validation "
                f"accuracy is measured, got {self.recipe.steps}"
            )

    def shortened(self) -> Self:
        """A quick form of the grid, which shows that it runs and nothing more."""
        return dataclasses.replace(
            self,
            pairs=self.pairs[-2:],
            methods=self.methods[:5],
            batch_sizes=self.batch_sizes[:1],
            weights=self.weights[:2],
            learning_rates=self.learning_rates[:2],
            recipe=dataclasses.replace(self.recipe, steps=CHUNKS),
            pretraining=dataclasses.replace(self.pretraining, steps=CHUNKS),
            seeds=2,
            test=100,
        )

    @abc.abstractmethod
    def check_source(self, name: str) -> None:
        """Raises an ``InputError`` where there is no such source."""

    @abc.abstractmethod
    def dataset(self, name: str, cache: Path, reporter: Reporter) -> Dataset:
        """The images of a data set, as the networks take them."""

    @abc.abstractmethod
    def networks(
        self, source: str, cache: Path, reporter: Reporter
    ) -> tuple[str, Params]:
        """A source's name in tables, and its networks, with a leading axis of seeds."""


@dataclasses.dataclass(frozen=True)
class SmallGrid(Grid):
    """A grid on small grey images, whose networks are pretrained here from scratch."""

    architecture: Architecture

    def check_source(self, name: str) -> None:
        load(name, self.architecture.side)

    def dataset(self, name: str, cache: Path, reporter: Reporter) -> Dataset:
        return load(name, self.architecture.side)

    def networks(
        self, source: str, cache: Path, reporter: Reporter
    ) -> tuple[str, Params]:
        dataset = self.dataset(source, cache, reporter)
        architecture = dataclasses.replace(self.architecture, classes=dataset.classes)
        with reporter.task(f"{dataset.name}: pretraining", 0) as advanced:
            made = load_or_pretrain(
                architecture, self.pretraining, dataset, self.seeds, cache,
                reporter.warn, advanced,
            )  # fmt: skip
        return dataset.name, made.params
