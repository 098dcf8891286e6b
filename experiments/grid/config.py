"""What a grid is made of."""

import dataclasses
from pathlib import Path

from experiments.data import Dataset, load
from experiments.errors import InputError
from experiments.methods import method
from experiments.models import Architecture, Params, Spec
from experiments.pretrain import load_or_pretrain
from experiments.progress import Reporter
from experiments.recipe import Recipe
from experiments.train import CHUNKS


@dataclasses.dataclass(frozen=True)
class Grid:
    """Data sets x sources x methods x batch sizes x trials, each with all seeds.

    Every method has the same number of trials: one with a regularizer has each λ of
    ``weights`` at ``recipe``'s learning rate, one without has each rate of
    ``learning_rates``. The steps at which training stops are chosen too, among ten
    equally far apart. Both by validation accuracy, the mean over seeds.

    Attributes:
      pairs: source and target, names as ``data.load`` knows them.
      methods: keys of ``METHODS``.
      batch_sizes: images in an update; all are trained for equally many updates.
      weights: λ.
      learning_rates: for the methods without λ; as many as there are weights.
      recipe: of fine-tuning, but for the batch size.
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

    def check_source(self, name: str) -> None:
        """Raises an ``InputError`` where there is no such source."""
        raise NotImplementedError

    def dataset(self, name: str, cache: Path, reporter: Reporter) -> Dataset:
        """The images of a data set, as the networks take them."""
        raise NotImplementedError

    def networks(
        self, source: str, cache: Path, reporter: Reporter
    ) -> tuple[str, Params]:
        """A source's name in tables, and its networks, with a leading axis of seeds."""
        raise NotImplementedError


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


def shortened(grid: Grid) -> Grid:
    """A quick form of a grid, which shows that it runs and nothing more."""
    return dataclasses.replace(
        grid,
        pairs=grid.pairs[-2:],
        methods=grid.methods[:5],
        batch_sizes=grid.batch_sizes[:1],
        weights=grid.weights[:2],
        learning_rates=grid.learning_rates[:2],
        recipe=dataclasses.replace(grid.recipe, steps=CHUNKS),
        pretraining=dataclasses.replace(grid.pretraining, steps=CHUNKS),
        seeds=2,
        test=100,
    )
