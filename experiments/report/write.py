"""Writes the report of a study, finished or not."""

from pathlib import Path

from rich.console import Console

from experiments import cells
from experiments.errors import InputError
from experiments.methods import method
from experiments.provenance import in_words
from experiments.report import chosen, conflict, difference, headline, tables
from experiments.report.results import Record, Results, read_cells

# A study with more places prints only the summary.
PRINTED = 4

NOTES = """\
- {per_class} training images per class of the target; {steps}. {seeds} seeds vary
  pretraining, images, head and order.
- A difference is test accuracy minus that of plain fine-tuning on the same seeds, in
  points: mean ± standard error over seeds. Diverged: the loss of a seed became infinite
  or NaN.
"""
VALIDATION = """\
- {validation_per_class} validation images per class choose the last step and the trial.
"""
RATES = """\
- Methods without λ are tried at learning rates {}; those with λ have the one that plain
  fine-tuning chose.
"""


def publish(folder: Path, console: Console) -> None:
    """Writes tables and figures to ``folder``, and prints the tables or a summary.

    Args:
      folder: folder of ``cells.jsonl``, of a study that may still be running.
      console: the console to print on.

    Raises:
      InputError: if there is no study in ``folder``, or its file is damaged.
    """
    path = folder / "cells.jsonl"
    if not path.is_file():
        raise InputError(f"no study in {folder}: expected a file cells.jsonl there")
    header, *records = cells.read(path)
    # A line that was edited by hand may lack anything.
    try:
        results = Results(header, read_cells(records))
        _write(folder, results)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged, or of another version: {type(error).__name__}: {error}"
        ) from error
    if len(results.names) <= PRINTED:
        for place in results.names:
            found = tables.differences(results, place)
            console.print(tables.terminal(*found, left=2))
        return
    title = "Cells below plain fine-tuning, and differences to it in points"
    rows = [row[:-1] for row in tables.summarize(results).values()]
    console.print(tables.terminal(title, tables.HEADINGS[:-1], rows))


def _write(folder: Path, results: Results) -> None:
    texts = {
        "summary.md": tables.summary(results),
        "table.md": tables.by_place(results),
        "ranges.md": tables.ranges(results),
        "headline.md": headline.markdown(results),
    }
    figures = [
        name
        for kind in (headline, difference, conflict)
        for name in kind.draw(folder, results)
    ]
    blocks = [
        f"# {results.config['title']}",
        in_words({**results.header, "commit": ", ".join(results.commits)}),
        _notes(results.config),
        "## Summary\n\n" + texts["summary.md"],
        "## Figures",
        *(f"![{Path(name).stem.replace('-', ' ')}]({name})" for name in figures),
        "## Differences to plain fine-tuning\n\n" + texts["table.md"],
    ]
    if results.config["validation_per_class"]:
        texts |= chosen.markdown(results)
        blocks.append("## Chosen trials\n\n" + texts["chosen.md"])
    blocks.append("## Cells without a result\n\n" + "\n".join(_without(results)))
    texts["report.md"] = "\n\n".join(block.strip() for block in blocks) + "\n"
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _notes(config: Record) -> str:
    recipes = (
        "{steps} steps of {batch_size} images with {optimizer}".format(**recipe)
        for recipe in config["recipes"]
    )
    text = NOTES.format(**config, steps=", or ".join(recipes))
    if config["validation_per_class"]:
        text += VALIDATION.format(**config)
    if rates := ", ".join(f"{rate:g}" for rate in config["learning_rates"]):
        text += RATES.format(rates)
    return text


def _without(results: Results) -> list[str]:
    """A line for each cell without a result, and one for cells that have not run."""
    lines = []
    for cell in results.cells:
        if not cell.accuracy:
            what = results.title(cell.place), method(cell.method).label, cell.trial
            why = cell.record.get("diverged") or cell.record["error"]
            lines.append(f"- {', '.join(what)}: {' '.join(why.split())}")
    if absent := results.header["cells"] - len(results.cells):
        lines.append(f"- {absent} cells have not run yet.")
    return lines or ["None."]
