"""What the demo leaves behind: a table in the terminal, and files in one folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments import provenance
from experiments.demo import figures, tables
from experiments.demo.results import summarize, write
from experiments.finetune import Cell

# The plain sum, judged by layer: what conflict does when nothing is done about it.
HEAT_MAP_METHOD = "l2-sp"


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
    """Writes ``results.jsonl``, ``table.md`` and the figures, and prints the table.

    Args:
      folder: where to write; made where it is missing.
      console: where to print.
      cells: all but one, in the order of the table's rows.
      scratch: the cell from random weights, which comes first in the table.
      target: name of the target task.
      title: of the table.
      notes: what a reader of the table must know, one sentence or two each.
      header: the first record of ``results.jsonl``, from ``provenance.about``.
    """
    rows = [scratch, *cells]
    summaries = [summarize(cell, rows) for cell in rows]
    notes = [*notes, provenance.in_words(header)]
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "results.jsonl", header, rows)
    (folder / "table.md").write_text(tables.markdown(summaries, title, notes))
    figures.accuracy(folder / "accuracy.png", cells, scratch, target)
    heaviest = max(
        (cell.weight for cell in cells if cell.weight is not None), default=None
    )
    shown = [
        cell
        for cell in cells
        if cell.method == HEAT_MAP_METHOD and cell.weight == heaviest
    ]
    if shown:
        figures.conflict(folder / "conflict.png", shown)
    console.print(tables.terminal(summaries, title))
    console.print()
    for note in notes:
        console.print(note, markup=False, highlight=False, style="dim")
