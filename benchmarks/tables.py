"""Tables: in the terminal and, with the same cells, as Markdown."""

from typing import NamedTuple

import rich.table
from rich import box

from benchmarks.timing import Quartiles

NONE = "–"


class Table(NamedTuple):
    """Headings of the columns, and the cells row by row."""

    headings: list[str]
    cells: list[list[str]]


def number(value: float | None, form: str = ".3g") -> str:
    """A number with a typographic minus; a dash for None."""
    if value is None:
        return NONE
    if form == ".3g" and 0 < abs(value) < 0.001:
        return "< 0.001"
    # From 1000 on, three digits would come out in exponents.
    form = ".0f" if form == ".3g" and abs(value) >= 999.5 else form
    return format(value, form).replace("-", "−")


def spread(value: Quartiles) -> str:
    """Median, and the quartiles in brackets."""
    median, low, high = (number(value[q], ".2f") for q in ("median", "low", "high"))
    return f"{median} ({low}–{high})"


def terminal(title: str, table: Table) -> rich.table.Table:
    shown = rich.table.Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, heading in enumerate(table.headings):
        shown.add_column(heading, justify="right" if i else "left", no_wrap=not i)
    for row in table.cells:
        shown.add_row(*row)
    return shown


def markdown(table: Table) -> str:
    lines = [
        "| " + " | ".join(table.headings) + " |",
        "|---" + "|--:" * (len(table.headings) - 1) + "|",
    ]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in table.cells)])
