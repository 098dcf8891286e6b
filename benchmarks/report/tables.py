"""Markdown tables of rows."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from benchmarks.rows import Row, Sides
from benchmarks.timing import Quartiles

NONE = "–"


def comparisons(rows: Sequence[Row]) -> str:
    """One line per row, without columns that are empty in all rows."""
    figures = list(dict.fromkeys(name for row in rows for name in row["figures"]))
    headings = ["case", "ours", "reference", "ratio", "goal", "floor", *figures]
    cells = [
        [
            row["case"],
            row["ours"],
            row["reference"],
            spread(row["ratio"]),
            goal(row),
            number(row["floor"], ".2f"),
            *(both(row["figures"].get(name)) for name in figures),
        ]
        for row in rows
    ]
    said = [i for i in range(len(headings)) if any(row[i] != NONE for row in cells)]
    return markdown(
        [headings[i] for i in said], [[row[i] for i in said] for row in cells]
    )


def growth(rows: Iterable[Row], costs: Mapping[str, Sequence[str]]) -> str:
    """One line per cost and program that was measured along an axis.

    Args:
      rows: the rows; those without an axis are ignored.
      costs: names of figures by axis.
    """
    found: dict[tuple[str, str, str], dict[int, float]] = {}
    for row in rows:
        if row["axis"] is None or row["n"] is None:
            continue
        for cost in costs[row["axis"]]:
            names = row["ours"], row["reference"]
            for name, value in zip(names, row["figures"][cost], strict=True):
                if value is not None:
                    points = found.setdefault((row["axis"], name, cost), {})
                    points[row["n"]] = value
    cells = []
    for (axis, name, cost), values in found.items():
        n, value = np.array(sorted(values.items())).T
        ends = [f"{number(value[i])} at {n[i]:,.0f}" for i in (0, -1)]
        cells.append([axis, name, cost, *ends, number(exponent(n, value), ".2f")])
    return markdown(["axis", "program", "cost", "first", "last", "exponent"], cells)


def exponent(n: np.ndarray, cost: np.ndarray) -> float | None:
    """The slope of log cost over log n in the last two decades; None for one point."""
    last = n >= n.max() / 100
    if last.sum() < 2:
        return None
    return float(np.polyfit(np.log(n[last]), np.log(cost[last]), 1)[0])


def goal(row: Row) -> str:
    """The limit, and whether it was met."""
    if row["limit"] is None:
        return NONE
    return f"{number(row['limit'])}, {'met' if kept(row) else '**missed**'}"


def kept(row: Row) -> bool:
    assert row["limit"] is not None
    return row["ratio"]["median"] <= row["limit"]


def number(value: float | None, form: str = ".3g") -> str:
    """A number with a typographic minus; a dash for None."""
    if value is None:
        return NONE
    if form == ".3g" and 0 < abs(value) < 0.001:
        return "< 0.001"
    # From 1000 on, three digits would be written with an exponent.
    form = ",.0f" if form == ".3g" and abs(value) >= 999.5 else form
    return format(value, form).replace("-", "−")


def spread(value: Quartiles) -> str:
    """The median, with the quartiles in parentheses unless they are equal to it."""
    median, low, high = (number(value[q], ".2f") for q in ("median", "low", "high"))
    exact = value["low"] == value["median"] == value["high"]
    return median if exact else f"{median} ({low}–{high})"


def both(value: Sides | None) -> str:
    """Our figure and that of the reference."""
    if value is None or value[0] is value[1] is None:
        return NONE
    return " / ".join(number(x) for x in value)


def markdown(headings: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---", *["--:"] * (len(headings) - 1)], *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
