"""Tables: in the terminal and, with the same cells, as Markdown."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from benchmarks.results import Row, as_dict

NONE = "–"
SIDES = ("ours", "reference")
Cells = list[list[str]]


def number(value: float | None, form: str = ".3g") -> str:
    """A number with a typographic minus; a dash for None."""
    if value is None:
        return NONE
    if form == ".3g" and 0 < abs(value) < 0.001:
        return "< 0.001"
    # From 1000 on, three digits would come out in exponents.
    form = ".0f" if form == ".3g" and abs(value) >= 999.5 else form
    return format(value, form).replace("-", "−")


def spread(value: dict[str, float], form: str = ".2f") -> str:
    """Median, and the quartiles in brackets."""
    low, high = number(value["low"], form), number(value["high"], form)
    return f"{number(value['median'], form)} ({low}–{high})"


def comparison(
    rows: Sequence[Row | dict[str, Any]], extra: Sequence[str] = ()
) -> tuple[list[str], Cells]:
    """Headings and cells for rows of :class:`benchmarks.results.Row`.

    Times, memory and compilation are "ours / reference". A column that has nothing to
    say for any row is left out.

    Args:
      rows: the rows, or their dicts as read from a file.
      extra: which of their further figures to show.
    """
    headings = ["case", "reference", "ratio", "floor", "target", "ms"]
    headings += ["temporary MB", "compile s", *extra]
    cells = []
    for row in map(as_dict, rows):
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
    return [headings[i] for i in said], [[row[i] for i in said] for row in cells]


def _text(value: float | str | None) -> str:
    return value if isinstance(value, str) else number(value)


def _sides(values: dict[str, float | None]) -> str:
    return " / ".join(number(values[side]) for side in SIDES)


def terminal(title: str, headings: Sequence[str], cells: Cells) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left", no_wrap=not i)
    for row in cells:
        table.add_row(*row)
    return table


def markdown(headings: Sequence[str], cells: Cells) -> str:
    lines = [
        "| " + " | ".join(headings) + " |",
        "|---" + "|--:" * (len(headings) - 1) + "|",
    ]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in cells)])
