"""The results of a study, read from the records of ``cells.jsonl``."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from experiments.methods import PLAIN, method
from experiments.statistics import Estimate, difference, estimate
from experiments.study import Place, Setting

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Cell(Setting):
    """A setting and the results of its seeds.

    Attributes:
      record: its line in ``cells.jsonl``.
      plain: test accuracy of plain fine-tuning at the same place and learning rate, by
        seed in percent; ``None`` if there is none.
    """

    record: Record
    plain: Sequence[float] | None = None

    @functools.cached_property
    def accuracy(self) -> Estimate | None:
        """Test accuracy in percent; ``None`` if there is no result."""
        return estimate(self.record["accuracy"]) if "accuracy" in self.record else None

    @functools.cached_property
    def gain(self) -> Estimate | None:
        """The accuracy minus that of plain fine-tuning, in points, paired by seed."""
        if self.accuracy is None or self.plain is None:
            return None
        return difference(self.record["accuracy"], self.plain)

    @property
    def diverged(self) -> bool:
        """Whether it diverged and plain fine-tuning did not."""
        return "diverged" in self.record and self.plain is not None

    @property
    def trial(self) -> str:
        """What distinguishes it from other cells of its method and place."""
        rate = f"learning rate {self.learning_rate:g}"
        return f"λ = {self.weight:g}" if self.weight else rate


def read_cells(records: Iterable[Record]) -> list[Cell]:
    """The cells of a study, each once. Later records replace earlier ones."""
    latest: dict[tuple, Cell] = {}
    for record in records:
        if record["record"] == "cell":
            cell = Cell(**vars(Setting.of(record)), record=record)
            trial = cell.weight or cell.learning_rate
            latest[cell.place, cell.method, trial] = cell

    def plain(cell: Cell) -> Sequence[float] | None:
        found = latest.get((cell.place, PLAIN, cell.learning_rate))
        return found and found.record.get("accuracy")

    return [dataclasses.replace(cell, plain=plain(cell)) for cell in latest.values()]


def choose(cells: Iterable[Cell]) -> dict[tuple[Place, str], Cell]:
    """The trial with the highest mean validation accuracy, by place and method.

    The mean is over seeds, at the step that the trial itself chose by it. Ties, and
    trials without validation images, go to the smallest λ or learning rate. A method
    without any result is left out.
    """

    def rank(cell: Cell) -> tuple[float, float, float]:
        validation = float(np.mean(cell.record.get("validation", 0)))
        return validation, -(cell.weight or 0), -cell.learning_rate

    ranked = sorted((cell for cell in cells if cell.accuracy), key=rank)
    return {(cell.place, cell.method): cell for cell in ranked}


@dataclasses.dataclass(frozen=True)
class Results:
    """The header and the cells in ``cells.jsonl``, of a study finished or not."""

    header: Record
    cells: Sequence[Cell]

    @property
    def config(self) -> Record:
        """The ``Study`` as a dict."""
        return self.header["config"]

    @property
    def commits(self) -> list[str]:
        """The commits at which cells ran, the oldest cell's first."""
        own = (c.record.get("commit", self.header["commit"]) for c in self.cells)
        return [*dict.fromkeys(own)] or [self.header["commit"]]

    @functools.cached_property
    def names(self) -> dict[Place, tuple[str, str]]:
        """The names of source and target by place, in the order of the study."""
        return {c.place: (c.record["from"], c.record["to"]) for c in self.cells}

    @property
    def weights(self) -> list[float]:
        """All values of λ, in order."""
        own = {cell.weight for cell in self.cells if cell.weight}
        return sorted(own | {*self.config["weights"]})

    @property
    def methods(self) -> list[str]:
        """The methods with a λ."""
        return [name for name in self.config["methods"] if method(name).rule]

    def of(self, name: str, place: Place | None = None) -> list[Cell]:
        """The cells of a method, at one or all places, in the order of λ."""
        own = [c for c in self.cells if c.method == name and place in (None, c.place)]
        return sorted(own, key=lambda cell: cell.weight or 0)

    def recipe(self, place: Place) -> str:
        """The optimizer and batch size of a place, if places differ in them."""
        text = ""
        if len({other.optimizer for other in self.names}) > 1:
            text += f", {place.optimizer}"
        if len({other.batch_size for other in self.names}) > 1:
            text += f", batches of {place.batch_size}"
        return text

    def title(self, place: Place) -> str:
        return " → ".join(self.names[place]) + self.recipe(place)
