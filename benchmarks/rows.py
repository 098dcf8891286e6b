"""Programs compared with others, a row for two of them."""

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

# Of a figure: ours, and the reference's.
Sides = tuple[float | None, float | None]


class Pair(NamedTuple):
    """Names of the program that is the numerator, and of the denominator."""

    ours: str
    reference: str
    goal: Goal | None = None


class Row(TypedDict):
    """What is said of two programs that were measured together.

    Attributes:
      table: which table of its benchmark it belongs to.
      case: network, size and dtype.
      ours: the program that is the numerator of the ratio.
      reference: the denominator.
      ratio: of times, or of what the table is about.
      goal: name of the goal; None where there is none.
      limit: what the ratio is to stay below; None without a goal.
      floor: what it cannot go below; None where nothing is known.
      axis: what grows from row to row; None where nothing does.
      n: the value on that axis.
      figures: by heading with the unit; ours, and the reference's.
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
      seconds: of each call, ``[repetitions]``.
      compile_s: seconds of each compilation, tracing included, ``[compilations]``.
      figures: medians and XLA's own figures, by heading and program.
    """

    seconds: dict[str, np.ndarray]
    compile_s: dict[str, np.ndarray]
    figures: dict[str, dict[str, float | None]]

    def rows(
        self, table: str, case: str, pairs: Sequence[Pair], **options
    ) -> list[Row]:
        """A row for each pair, of their times; ``options`` as those of ``row``."""
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
      functions: each is made anew to be compiled, so that nothing of it is cached.
      seconds: for the calls of all of them; 0 for a trial.
      compilations: how often each is compiled,
      patience: while that takes no longer than this for all of them, in s.
      times: how often each is run in one call.
    """
    rounds: list[dict[str, Program]] = []
    began = time.perf_counter()
    while not rounds or (
        len(rounds) < compilations
        # Whether another round would still end in time.
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
