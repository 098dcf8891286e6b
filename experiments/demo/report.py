"""What the demo leaves behind: tables in the terminal, and files in one folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments import provenance
from experiments.demo import figures, tables
from experiments.demo.results import summarize, write
from experiments.finetune import Cell

# The plain sum, judged by layer, at the λ of its authors: what conflict there is when
# nothing is done about it.
HEAT_MAP = ("l2-sp", 1.0)


def publish(
    folder: Path,
    console: Console,
    cells: Sequence[Cell],
    scratch: Cell,
    target: str,
    title: str,
    notes: Sequence[str],
    header: dict[str, Any],
) -> None:
    """Writes ``results.jsonl``, the tables and the figures, and prints the table.

    Args:
      folder: where to write; made where it is missing.
      console: where to print.
      cells: all but one.
      scratch: the cell from random weights.
      target: name of the target task.
      title: of the table.
      notes: what a reader of the table must know, one sentence or two each.
      header: the first record of ``results.jsonl``, from ``provenance.about``.
    """
    everything = [scratch, *cells]
    summaries = [summarize(cell, everything) for cell in everything]
    notes = [
        f"From random weights, plain fine-tuning: "
        f"{tables.accuracy(summaries[0].accuracy)}.",
        *notes,
        provenance.in_words(header),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "results.jsonl", header, everything)
    (folder / "table.md").write_text(tables.markdown(summaries, title, notes))
    (folder / "ranges.md").write_text(tables.ranges(summaries))
    figures.accuracy(folder / "accuracy.png", summaries, target, scratch.accuracy.size)
    shown = [cell for cell in cells if (cell.method, cell.weight) == HEAT_MAP]
    if shown:
        figures.conflict(folder / "conflict.png", shown)
    console.print(title, style="bold", highlight=False)
    console.print()
    for source in tables.sources(summaries):
        console.print(tables.terminal(summaries, source))
        console.print()
    for note in notes:
        console.print(note, markup=False, highlight=False, style="dim")
