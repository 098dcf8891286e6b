"""Ours beside a reference: what is said of two programs that were timed together."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from benchmarks.records import Row
from benchmarks.tables import NONE, Table, number, spread
from benchmarks.timing import Program, Quartiles, quartiles, ratio

SIDES = ("ours", "reference")


class Comparison(TypedDict):
    """A row: timed in the same repetitions; times are median and quartiles.

    Attributes:
      case: what is compared, such as "ViT, 32 px, batch 32, L2-SP: dtnh, global"; what
        is behind the colon is ``ours``.
      ours: what the numerator of the ratio is.
      reference: what the denominator is.
      ratio: of the times, ours to reference.
      ours_ms: milliseconds of a call of ours.
      reference_ms: milliseconds of a call of the reference.
      repetitions: number of timed calls of each.
      compile_s: seconds of tracing, lowering and compiling, ``ours`` and ``reference``.
      temporary_mb: MB beside arguments and results, ``ours`` and ``reference``.
      floor: the ratio that no implementation can go below; None where there is none.
      target: the ratio that we want to keep below; None where there is none.
      extra: further figures of this benchmark, by heading with the unit.
    """

    case: str
    ours: str
    reference: str
    ratio: Quartiles
    ours_ms: Quartiles
    reference_ms: Quartiles
    repetitions: int
    compile_s: dict[str, float]
    temporary_mb: dict[str, float | None]
    floor: float | None
    target: float | None
    extra: dict[str, Any]


def compared(
    where: str,
    ours: str,
    reference: str,
    times: Mapping[str, np.ndarray],
    programs: Mapping[str, Program] | None = None,
    *,
    floor: float | None = None,
    target: float | None = None,
    extra: dict[str, Any] | None = None,
) -> Comparison:
    """What is said of two programs that were timed together.

    Args:
      where: the case, but for ``ours``.
      ours: the name of one of them,
      reference: and of the other.
      times: seconds of each call by name, as from ``timing.interleaved``.
      programs: by name; None where nothing was compiled.
      floor: see :class:`Comparison`.
      target: see :class:`Comparison`.
      extra: see :class:`Comparison`.
    """
    sides = dict(zip(SIDES, (ours, reference), strict=True))
    found = {side: programs[name] if programs else None for side, name in sides.items()}
    return Comparison(
        case=f"{where}: {ours}",
        ours=ours,
        reference=reference,
        ratio=ratio(times[ours], times[reference]),
        ours_ms=quartiles(1e3 * times[ours]),
        reference_ms=quartiles(1e3 * times[reference]),
        repetitions=len(times[ours]),
        compile_s={
            side: p.trace_seconds + p.compile_seconds if p else 0.0
            for side, p in found.items()
        },
        temporary_mb={side: p and p.temporary_mb for side, p in found.items()},
        floor=floor,
        target=target,
        extra=extra or {},
    )


def where(row: Row) -> str:
    """The row's case, but for what is ours."""
    return row["case"].rpartition(": ")[0]


def table(rows: Sequence[Row], extra: Sequence[str] = ()) -> Table:
    """A line for each :class:`Comparison`.

    Times, memory and compilation are "ours / reference". A column that has nothing to
    say for any row is left out.

    Args:
      rows: the rows, as measured or as read from a file.
      extra: which of their further figures to show.
    """
    headings = ["case", "reference", "ratio", "floor", "target", "ms"]
    headings += ["temporary MB", "compile s", *extra]
    cells = []
    for row in rows:
        milliseconds = {side: row[f"{side}_ms"]["median"] for side in SIDES}
        cells.append(
            [
                row["case"],
                row["reference"],
                spread(row["ratio"]),
                number(row["floor"], ".2f"),
                number(row["target"], ".2f"),
                _sides(milliseconds),
                _sides(row["temporary_mb"]),
                _sides(row["compile_s"]),
                *(_text(row["extra"].get(name)) for name in extra),
            ]
        )
    said = [i for i in range(len(headings)) if any(row[i] != NONE for row in cells)]
    return Table([headings[i] for i in said], [[row[i] for i in said] for row in cells])


def _text(value: float | str | None) -> str:
    return value if isinstance(value, str) else number(value)


def _sides(values: Mapping[str, float | None]) -> str:
    return " / ".join(number(values[side]) for side in SIDES)
