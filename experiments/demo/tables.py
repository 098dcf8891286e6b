"""The results as a table: in the terminal and, with the same cells, as Markdown."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from experiments.demo.results import Summary
from experiments.methods import METHODS
from experiments.statistics import Estimate

HEADINGS = ("method", "λ", "accuracy %", "gain by DTNH", "conflict %", "cosine")
NONE = "–"


def _number(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form).replace("-", "−")


def _estimate(value: Estimate | None, form: str) -> str:
    if value is None:
        return NONE
    return f"{_number(value.mean, form)} ± {value.standard_error:.2f}"


def row(summary: Summary) -> tuple[str, ...]:
    """The cells of one row, one for each of ``HEADINGS``."""
    rate = summary.conflict_rate
    return (
        METHODS[summary.method].label,
        _number(summary.weight, "g"),
        _estimate(summary.accuracy, ".2f"),
        _estimate(summary.gain, "+.2f"),
        _number(None if rate is None else 100 * rate, ".0f"),
        _number(summary.mean_cosine, "+.2f"),
    )


def terminal(summaries: Sequence[Summary], title: str) -> Table:
    """The table for the terminal, one section a source; fits 80 columns."""
    # Narrow padding: with the usual one, 80 columns would cut numbers off.
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for i, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if i else "left", no_wrap=True)
    last = None
    for summary in summaries:
        if summary.source != last:
            table.add_section()
            # Without "from": it would take columns that wide numbers need.
            table.add_row(f"[bold]{summary.source}[/bold]")
            last = summary.source
        table.add_row(*row(summary))
    return table


def markdown(summaries: Sequence[Summary], title: str, notes: Sequence[str]) -> str:
    """The same table as Markdown, with a column for the source, and the notes below."""
    lines = [
        f"**{title}**",
        "",
        "| source | " + " | ".join(HEADINGS) + " |",
        "|---|---|" + "--:|" * (len(HEADINGS) - 1),
    ]
    lines += [
        f"| {item.source} | " + " | ".join(row(item)) + " |" for item in summaries
    ]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"
