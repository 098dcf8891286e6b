"""The cells of a grid, in the order in which they run."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.methods import METHODS


@dataclasses.dataclass(frozen=True)
class Key:
    """What one cell is: one trial of one method, on one pair at one batch size.

    Attributes:
      source: name of the data set that the networks were pretrained on.
      target: name of the data set that they are fine-tuned to.
      batch_size: images in an update.
      method: key in ``METHODS``.
      weight: λ; ``None`` for a method without one.
      learning_rate: of fine-tuning.
    """

    source: str
    target: str
    batch_size: int
    method: str
    weight: float | None
    learning_rate: float

    @property
    def place(self) -> "Place":
        return Place(self.source, self.target, self.batch_size)


@dataclasses.dataclass(frozen=True, order=True)
class Place:
    """Where methods are compared: a pair and a batch size."""

    source: str
    target: str
    batch_size: int


FIELDS = tuple(field.name for field in dataclasses.fields(Key))


def key_of(record: dict[str, Any]) -> Key:
    """The key of a record of ``cells.jsonl``."""
    return Key(*(record[name] for name in FIELDS))


def cells(
    config: dict[str, Any], rates: Mapping[Place, float] | None = None
) -> Iterator[Key]:
    """All cells of a grid.

    Args:
      config: a ``Grid`` as a dict, so that the header of a file of results serves.
      rates: the learning rate of the methods with a λ, where it is chosen already;
        the recipe's elsewhere.
    """
    for source, target in config["pairs"]:
        for batch_size in config["batch_sizes"]:
            place = Place(source, target, batch_size)
            rate = config["recipe"]["learning_rate"]
            if rates is not None and place in rates:
                rate = rates[place]
            for name in config["methods"]:
                for trial in trials(config, name, rate):
                    yield Key(source, target, batch_size, name, *trial)


def trials(
    config: dict[str, Any], name: str, rate: float
) -> Sequence[tuple[float | None, float]]:
    """λ and learning rate of each trial of a method: for all methods as many."""
    if METHODS[name].towards is None:
        return [(None, rate) for rate in config["learning_rates"]]
    return [(weight, rate) for weight in config["weights"]]
