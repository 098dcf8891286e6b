"""Differences to plain fine-tuning: ``table.md``, ``ranges.md`` and ``summary.md``."""

from collections.abc import Callable, Iterable, Sequence
from textwrap import fill

import numpy as np
from rich import box
from rich.table import Table

from experiments.methods import FROZEN, PLAIN, RULES, method
from experiments.report.results import Cell, Results, choose
from experiments.statistics import LEVEL, Estimate, holm, number
from experiments.study import Place

NOTHING, DIVERGED = "–", "diverged"
# Headings of the summary.
HEADINGS = (
    "method", "cells", "> 1 s.e. below", "> 2 s.e. below", "below (Holm)", "lowest",
    "mean", "highest", "diverged", "worst cell",
)  # fmt: skip
NOTES = """\
- Is any cell significantly below plain fine-tuning?{answer}
- That is the column Holm: one-sided paired t-tests with Holm's correction over the
  cells of a method. The probability that it counts any cell by chance is at most 5 %.
- A cell is a source, a target, an optimizer and a λ. By chance alone, {one:.2g} % of
  the cells are more than 1 standard error (s.e.) below plain fine-tuning, {two:.2g} %
  more than 2 ({seeds} seeds, t-distribution). A cell that diverged counts as below; the
  differences, in points, are of the others.
"""
Rows = Iterable[Sequence[str]]


def table(headings: Sequence[str], rows: Rows, left: int = 1) -> str:
    """A table in Markdown, with the first ``left`` columns aligned to the left."""
    rule = "|" + "---|" * left + "--:|" * (len(headings) - left)
    lines = ["| " + " | ".join(row) + " |" for row in (headings, *rows)]
    return "\n".join([lines[0], rule, *lines[1:]])


def terminal(title: str, headings: Sequence[str], rows: Rows, left: int = 1) -> Table:
    """The same table for the terminal, where words wrap and numbers do not."""
    # Narrow padding, because with the default, 80 columns would truncate numbers.
    made = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
        show_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for i, heading in enumerate(headings):
        justify = "left" if i < left else "right"
        made.add_column(fill(heading, 11), justify=justify, no_wrap=i >= left)
    for row in rows:
        made.add_row(*row)
    return made


def differences(results: Results, place: Place) -> tuple[str, list[str], list]:
    """Title, headings and rows of one place. The first two columns are left-aligned."""
    weights, best = results.weights, choose(results.cells)
    baselines, rows = [], []
    for name in (PLAIN, FROZEN):
        if own := results.of(name, place):
            accuracy = best.get((place, name), own[0]).accuracy
            text = accuracy.percent if accuracy else DIVERGED
            baselines.append(f"{method(name).label} {text}")
    for name in results.methods:
        if own := results.of(name, place):
            texts = {cell.weight: _difference(cell) for cell in own}
            numbers = (texts.get(weight, NOTHING) for weight in weights)
            regularizer, rule = method(name).regularizer, name.split("/")[1]
            rows.append((regularizer, RULES[rule].label, *numbers))
    title = f"{results.title(place)}: {', '.join(baselines)}"
    return title, ["regularizer", "rule", *(f"λ = {x:g}" for x in weights)], rows


def _difference(cell: Cell) -> str:
    if cell.gain:
        return str(cell.gain)
    return DIVERGED if "diverged" in cell.record else NOTHING


def by_place(results: Results) -> str:
    """``table.md``: a table for each place."""
    parts = []
    for place in results.names:
        title, headings, rows = differences(results, place)
        parts += [f"*{title}*", table(headings, rows, left=2)]
    return "\n\n".join(parts) + "\n"


def compared(results: Results, name: str) -> list[Cell]:
    """The cells of a method that have a difference to plain fine-tuning or diverged."""
    return [cell for cell in results.of(name) if cell.gain or cell.diverged]


def _extent(cells: Sequence[Cell], what: Sequence[Callable]) -> list[str]:
    """Statistics of the differences, such as min, max and mean in ``what``."""
    means = [cell.gain.mean for cell in cells if cell.gain]
    return [number(each(means)) if means else NOTHING for each in what]


def ranges(results: Results) -> str:
    """``ranges.md``: the lowest and highest difference of each method, by source."""
    weights = results.weights
    sources = list(dict.fromkeys(source for source, _ in results.names.values()))
    rows = []
    for name in results.methods:
        cells, texts = compared(results, name), []
        for source in sources:
            own = [cell for cell in cells if cell.record["from"] == source]
            low, high = _extent(own, (min, max))
            low = DIVERGED if any(cell.diverged for cell in own) else low
            texts.append(low if high in (low, NOTHING) else f"{low} … {high}")
        rows.append((method(name).label, *texts))
    span = " to ".join(f"{x:g}" for x in sorted({min(weights), max(weights)}))
    first = f"points minus plain fine-tuning, λ = {span}"
    return table((first, *(f"from {source}" for source in sources)), rows) + "\n"


def summarize(results: Results) -> dict[str, tuple[str, ...]]:
    """The texts of the columns ``HEADINGS`` by method, over all places and λ."""
    rows = {}
    for name in results.methods:
        if own := compared(results, name):
            # Diverged cells count as below, and lower than all others.
            t = [x.gain.t if x.gain else -np.inf for x in own]
            p = [x.gain.p_below if x.gain else 0.0 for x in own]
            counts = len(own), sum(x < -1 for x in t), sum(x < -2 for x in t)
            surely = sum(x <= LEVEL for x in holm(p))
            diverged = sum(cell.diverged for cell in own)
            worst = min(own, key=lambda x: x.gain.mean if x.gain else -np.inf)
            where = f"{results.title(worst.place)}, {worst.trial}"
            extent = _extent(own, (min, np.mean, max))
            texts = map(str, (*counts, surely, *extent, diverged, where))
            rows[name] = (method(name).label, *texts)
    return rows


def summary(results: Results) -> str:
    """``summary.md``: the table, the answer it gives, and an explanation of columns."""
    rows, seeds = [*summarize(results).values()], results.config["seeds"]
    one, two = (100 * Estimate(-x, 1, seeds).p_below for x in (1, 2))
    answer = ""
    for word, none in (("Yes", False), ("No", True)):
        if labels := [row[0] for row in rows if (row[4] == "0") is none]:
            answer += f" {word}: {'; '.join(labels)}."
    notes = NOTES.format(answer=answer, one=one, two=two, seeds=seeds)
    return f"{table(HEADINGS, rows)}\n\n{notes}"
