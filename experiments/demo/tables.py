"""The results as tables: in the terminal and, with the same numbers, as Markdown."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table

from experiments.demo.compared import ARMS
from experiments.demo.results import Summary
from experiments.statistics import Estimate

DIVERGED = "diverged"


def number(value: float, form: str = "+.1f") -> str:
    """With a true minus sign, and none before zero."""
    text = format(value, form)
    zero = text.startswith("-") and not text.strip("-0.")
    return text.replace("-", "+" if zero else "−")


def difference(summary: Summary) -> str:
    """To plain fine-tuning, in points, or that training diverged."""
    if summary.gain is None:
        return DIVERGED
    return f"{number(summary.gain.mean)} ± {summary.gain.standard_error:.1f}"


def accuracy(value: Estimate | None) -> str:
    if value is None:
        return DIVERGED
    return f"{value.mean:.1f} ± {value.standard_error:.1f} %"


def sources(summaries: Sequence[Summary]) -> list[str]:
    """Their names, in order; not that of the random weights, which has plain alone."""
    return list(dict.fromkeys(item.source for item in summaries if item.weight))


def weights(summaries: Sequence[Summary]) -> list[float]:
    return sorted({item.weight for item in summaries if item.weight})


def headings(summaries: Sequence[Summary]) -> tuple[str, ...]:
    return "regularizer", "rule", *(f"λ = {weight:g}" for weight in weights(summaries))


def rows(summaries: Sequence[Summary], source: str) -> list[tuple[str, ...]]:
    """For each method one row, with a cell for each of ``headings``."""
    here = {
        (item.method, item.weight): difference(item)
        for item in summaries
        if item.source == source
    }
    return [
        (*arm, *(here[method, weight] for weight in weights(summaries)))
        for method, arm in ARMS.items()
    ]


def section(summaries: Sequence[Summary], source: str) -> str:
    """What is said of a source above its rows: plain fine-tuning's accuracy."""
    (plain,) = (
        item.accuracy
        for item in summaries
        if (item.source, item.weight) == (source, None)
    )
    return f"from {source}: plain fine-tuning {accuracy(plain)}"


def terminal(summaries: Sequence[Summary], source: str) -> Table:
    """The table of one source for the terminal; fits 80 columns."""
    # Narrow padding: with the usual one, 80 columns would cut numbers off.
    table = Table(
        title=section(summaries, source),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for i, heading in enumerate(headings(summaries)):
        table.add_column(heading, justify="right" if i > 1 else "left", no_wrap=True)
    for row in rows(summaries, source):
        table.add_row(*row)
    return table


def markdown(summaries: Sequence[Summary], title: str, notes: Sequence[str]) -> str:
    """The same tables as Markdown, and the notes below them."""
    lines = [f"**{title}**", ""]
    for source in sources(summaries):
        text = section(summaries, source)
        lines += [f"*{text[0].upper()}{text[1:]}*", ""]
        lines += _table(headings(summaries), rows(summaries, source), 2)
        lines.append("")
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"


def ranges(summaries: Sequence[Summary]) -> str:
    """The lowest and the highest difference over λ, one column per source."""
    weight = weights(summaries)
    shown = sources(summaries)
    heading = f"points minus plain fine-tuning, λ = {weight[0]:g} to {weight[-1]:g}"
    body = [
        (
            ", ".join(arm),
            *(
                _range(
                    item
                    for item in summaries
                    if (item.source, item.method) == (source, method)
                )
                for source in shown
            ),
        )
        for method, arm in ARMS.items()
    ]
    return "\n".join(_table((heading, *(f"from {x}" for x in shown)), body, 1)) + "\n"


def _range(own: Iterable[Summary]) -> str:
    gains = [item.gain and item.gain.mean for item in own]
    known = [gain for gain in gains if gain is not None]
    low = DIVERGED if len(known) < len(gains) else number(min(known))
    return f"{low} … {number(max(known))}" if known else low


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int):
    """The lines of a table in Markdown, with so many columns set to the left."""
    rule = "|" + "---|" * left + "--:|" * (len(headings) - left)
    lines = ["| " + " | ".join(row) + " |" for row in (headings, *rows)]
    return [lines[0], rule, *lines[1:]]
