"""A study: the settings that are compared. Each setting is a cell.

Each study is a config, in its own file in ``configs``. ``run`` trains its cells one
after the other and appends each result to ``cells.jsonl``. ``report`` makes tables and
figures from that file.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Self

from experiments.errors import InputError
from experiments.methods import PLAIN, method
from experiments.recipe import Recipe
from experiments.sources import QUICK_SIDE, Photographs, SmallImages
from experiments.training.job import CHUNKS


@dataclasses.dataclass(frozen=True, order=True)
class Place:
    """What all methods in a comparison share, besides the seeds."""

    source: str
    target: str
    optimizer: str
    batch_size: int


@dataclasses.dataclass(frozen=True)
class Setting:
    """The setting of one cell, which is trained once per seed.

    Attributes:
      place: source, target, optimizer and batch size.
      learning_rate: learning rate of fine-tuning.
      method: a name for ``methods.method``.
      weight: λ; ``None`` for a method without a regularizer.
    """

    place: Place
    learning_rate: float
    method: str
    weight: float | None

    def record(self) -> dict[str, Any]:
        """The setting as part of a line of ``cells.jsonl``."""
        flat = dataclasses.asdict(self)
        return {**flat.pop("place"), **flat}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """The setting in a line of ``cells.jsonl``."""
        place = Place(*(record[field.name] for field in dataclasses.fields(Place)))
        return cls(place, record["learning_rate"], record["method"], record["weight"])


@dataclasses.dataclass(frozen=True)
class Study:
    """Tasks x recipes x methods x weights, each with all seeds.

    With validation images, the step at which training stops is chosen among ten equally
    spaced ones, and the report chooses λ, both by validation accuracy averaged over
    seeds. If ``learning_rates`` are given too, this is a comparison of tuned methods:
    those without a regularizer are trained at each learning rate, and the others at the
    one that is best for plain fine-tuning. A capped rule then has a single trial, at
    λ = 1, because it is meant to need no tuning.

    Attributes:
      title: title of the report.
      images: resolves the names of data sets and sources, and has the network.
      tasks: pairs of source and target, by name.
      methods: names for ``methods.method``.
      weights: values of λ.
      recipes: how to fine-tune: steps, batch size, learning rate and optimizer.
      pretraining: how to pretrain on the sources.
      seeds: number of independent repetitions, which vary pretraining, images, head and
        order.
      first_seed: the first seed; the others follow it.
      per_class: training images per class of the target.
      validation_per_class: validation images per class; 0 for none.
      test: maximum number of test images; ``None`` for all held-out images.
      learning_rates: see above; as many as there are weights, or none.

    Raises:
      InputError: if these do not fit together.
    """

    title: str
    images: SmallImages | Photographs
    tasks: tuple[tuple[str, str], ...]
    methods: tuple[str, ...]
    weights: tuple[float, ...]
    recipes: tuple[Recipe, ...]
    pretraining: Recipe
    seeds: int
    per_class: int
    validation_per_class: int = 0
    test: int | None = None
    learning_rates: tuple[float, ...] = ()
    first_seed: int = 0

    @property
    def members(self) -> range:
        """The seeds themselves."""
        return range(self.first_seed, self.first_seed + self.seeds)

    def __post_init__(self):
        for field in ("tasks", "methods", "weights", "recipes"):
            if not getattr(self, field):
                raise InputError(f"`{field}` of a study must not be empty")
        for name in self.methods:
            method(name)
        if min(self.weights) <= 0:
            raise InputError(f"λ must be positive, got {min(self.weights):g}")
        if self.seeds < 2:
            raise InputError(f"seeds must be at least 2, got {self.seeds}")
        if len(self.learning_rates) not in (0, len(self.weights)):
            raise InputError(
                "every method must have the same number of trials, got "
                f"{len(self.weights)} weights and {len(self.learning_rates)} learning "
                "rates"
            )
        if self.learning_rates and PLAIN not in self.methods:
            raise InputError(f"`learning_rates` need the method {PLAIN!r}, got none")
        if self.learning_rates and not self.validation_per_class:
            raise InputError("`learning_rates` need validation images, got none")
        if len({(r.optimizer, r.batch_size) for r in self.recipes}) < len(self.recipes):
            raise InputError("recipes must differ in optimizer or batch size")
        if self.validation_per_class and any(r.steps % CHUNKS for r in self.recipes):
            raise InputError(f"with validation, steps must be a multiple of {CHUNKS}")

    def cells(self, rates: Mapping[Place, float] | None = None) -> Iterator[Setting]:
        """All settings, in the order in which they run.

        Args:
          rates: the learning rate of methods with a λ, for places where it has been
            chosen; other places use that of the recipe.
        """
        for source, target in self.tasks:
            for recipe in self.recipes:
                place = Place(source, target, recipe.optimizer, recipe.batch_size)
                rate = (rates or {}).get(place, recipe.learning_rate)
                for name in self.methods:
                    rule = method(name).rule
                    if rule is None:
                        for one in self.learning_rates or (rate,):
                            yield Setting(place, one, name, None)
                        continue
                    tuned = rule.max_ratio is None or not self.learning_rates
                    for weight in self.weights if tuned else (1.0,):
                        yield Setting(place, rate, name, weight)

    def settings(self) -> dict[str, Any]:
        """All that determines the results, as a JSON object."""
        rules = {name: method(name).rule for name in self.methods}
        return {
            **dataclasses.asdict(self),
            "rules": {k: dataclasses.asdict(v) for k, v in rules.items() if v},
        }

    def recipe(self, setting: Setting) -> Recipe:
        """How the cell is trained."""
        (found,) = (
            recipe
            for recipe in self.recipes
            if (recipe.optimizer, recipe.batch_size)
            == (setting.place.optimizer, setting.place.batch_size)
        )
        return dataclasses.replace(found, learning_rate=setting.learning_rate)

    def quick(self) -> Self:
        """A short version, only to check that the study runs."""

        def short(recipe: Recipe) -> Recipe:
            crop = recipe.crop and min(recipe.crop, QUICK_SIDE * 7 // 8)
            return dataclasses.replace(
                recipe, steps=min(recipe.steps, CHUNKS), crop=crop
            )

        return dataclasses.replace(
            self,
            images=self.images.quick(),
            tasks=self.tasks[-2:],
            weights=self.weights[:2],
            recipes=tuple(map(short, self.recipes[:1])),
            pretraining=short(self.pretraining),
            seeds=2,
            test=100,
            learning_rates=self.learning_rates[:2],
        )
