"""Comparisons of programs. Each row compares two of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypedDict

import numpy as np

from benchmarks.goals import Goal
from benchmarks.timing import (
    Function,
    Program,
    Quartiles,
    interleaved,
    quartiles,
    ratio,
    repeated,
)

# A figure for our program, and for the reference.
Sides = tuple[float | None, float | None]


class Pair(NamedTuple):
    """The names of the programs in the numerator and the denominator of a ratio."""

    ours: str
    reference: str
    goal: Goal | None = None


class Row(TypedDict):
    """The comparison of two programs that were measured together.

    Attributes:
      table: the table of the benchmark that the row belongs to.
      case: network, size and dtype.
      ours: the program in the numerator of the ratio.
      reference: the program in the denominator.
      ratio: ratio of times, or of what the table shows.
      goal: name of the goal; None without one.
      limit: the limit that the ratio should stay below; None without a goal.
      floor: the lowest possible ratio; None if unknown.
      axis: what grows from row to row; None if nothing does.
      n: the value on that axis.
      figures: figures of both programs, by heading with the unit.
    """

    table: str
    case: str
    ours: str
    reference: str
    ratio: Quartiles
    goal: str | None
    limit: float | None
    floor: float | None
    axis: str | None
    n: int | None
    figures: dict[str, Sides]


def row(
    table: str,
    case: str,
    pair: Pair,
    value: float | Quartiles,
    figures: Mapping[str, Mapping[str, float | None]],
    *,
    floor: float | None = None,
    axis: tuple[str | None, int | None] = (None, None),
) -> Row:
    """A row; ``value`` is the ratio, and ``figures`` are by heading and program."""
    ours, reference, goal = pair
    if isinstance(value, float | int):
        value = Quartiles(median=value, low=value, high=value)
    return Row(
        table=table,
        case=case,
        ours=ours,
        reference=reference,
        ratio=value,
        goal=goal and goal.name,
        limit=goal and goal.limit,
        floor=floor,
        axis=axis[0],
        n=axis[1],
        figures={name: (x[ours], x[reference]) for name, x in figures.items()},
    )


class Measured(NamedTuple):
    """Programs that were measured together, by name.

    Attributes:
      seconds: seconds of each call, ``[repetitions]``.
      compile_s: seconds of each compilation, with tracing, ``[compilations]``.
      figures: medians and figures from XLA, by heading and program.
    """

    seconds: dict[str, np.ndarray]
    compile_s: dict[str, np.ndarray]
    figures: dict[str, dict[str, float | None]]

    def rows(
        self, table: str, case: str, pairs: Sequence[Pair], **options
    ) -> list[Row]:
        """One row per pair, with the ratio of times; ``options`` as in ``row``."""
        return [
            row(
                table,
                case,
                pair,
                ratio(self.seconds[pair.ours], self.seconds[pair.reference]),
                self.figures,
                **options,
            )
            for pair in pairs
        ]


def measured(
    functions: Mapping[str, Callable[[], Function]],
    *,
    seconds: float,
    compilations: int = 1,
    patience: float = 0.0,
    times: int = 1,
) -> Measured:
    """Compiles and times functions side by side.

    Args:
      functions: makers of functions, called for each compilation so that nothing is
        cached.
      seconds: total time for the calls; 0 for a trial.
      compilations: maximum number of compilations of each function.
      patience: time limit in seconds; another round of compilations only starts if it
        would end in time.
      times: number of runs per call.
    """
    rounds: list[dict[str, Program]] = []
    began = time.perf_counter()
    while not rounds or (
        len(rounds) < compilations
        # Whether another round would end in time.
        and (time.perf_counter() - began) * (1 + 1 / len(rounds)) < patience
    ):
        made = {name: repeated(make(), times) for name, make in functions.items()}
        rounds.append({name: Program(function) for name, function in made.items()})
    programs = rounds[-1]
    found = interleaved(programs, seconds=seconds)
    found = {name: x / times for name, x in found.items()}
    compile_s = {x: np.array([p[x].compile_s for p in rounds]) for x in programs}
    figures = {
        "ms": {x: quartiles(1e3 * t)["median"] for x, t in found.items()},
        "temporary MB": {x: program.temporary_mb for x, program in programs.items()},
        "compile s": {x: float(np.median(s)) for x, s in compile_s.items()},
    }
    return Measured(found, compile_s, figures)
