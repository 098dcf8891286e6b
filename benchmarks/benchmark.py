"""What all benchmarks have in common: their options, and what a run of one does."""

import abc
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from rich.console import Console

from benchmarks import records
from benchmarks.records import Row
from benchmarks.tables import Table, terminal
from benchmarks.timing import interleaved


@dataclasses.dataclass(frozen=True)
class Benchmark(abc.ABC):
    """Options of every benchmark; the command line is made of the fields.

    Attributes:
      name: on the command line, of its module and of its files of results.
    """

    name: ClassVar[str]

    quick: bool = False
    """The smallest case, three repetitions at most: to see whether it runs."""
    out: Path = records.FOLDER
    """Folder for the results."""

    @abc.abstractmethod
    def measure(self, console: Console) -> Iterator[Row]:
        """What is found, row by row; says on the console how far it is."""

    @abc.abstractmethod
    def tables(self, rows: Sequence[Row]) -> dict[str, Table]:
        """What to print in the end, by title."""

    def run(self, console: Console) -> Path:
        """Measures, prints tables and writes JSON; returns its path."""
        rows = list(self.measure(console))
        for title, table in self.tables(rows).items():
            console.print(terminal(title, table))
        return records.write(self.name, dataclasses.asdict(self), rows, self.out)


@dataclasses.dataclass(frozen=True)
class Timed(Benchmark):
    """Options of a benchmark that calls programs in turn, many times over."""

    seconds: float = 10.0
    """Time for the calls of all that is timed together."""
    least: int = 7
    """Repetitions, even where they take longer than that."""

    @property
    def repetitions(self) -> tuple[float, int]:
        """Seconds that they go on for, and how many there are at least."""
        return (0.0, 3) if self.quick else (self.seconds, self.least)

    def time(self, programs: Mapping[str, Callable[[], Any]]) -> dict[str, np.ndarray]:
        """Seconds of each call by name, as from ``timing.interleaved``."""
        seconds, least = self.repetitions
        return interleaved(programs, seconds=seconds, least=least)
