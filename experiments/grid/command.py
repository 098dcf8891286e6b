"""The commands ``grid`` and ``report``."""

import dataclasses
from pathlib import Path

import tyro
from rich.console import Console
from rich.markdown import Markdown

from experiments.configs import CONFIGS
from experiments.errors import unknown
from experiments.grid.report import publish
from experiments.grid.run import run
from experiments.progress import Reporter


@dataclasses.dataclass(frozen=True)
class RunGrid:
    """Run a grid of methods, data sets and batch sizes; resumable, reports at the end.

    Run again, it goes on where it was. ``experiments/configs`` says what the grids are
    and how long they take.
    """

    config: tyro.conf.Positional[str]
    """Name of the grid, a key of CONFIGS in experiments/configs."""
    out: Path | None = None
    """Folder for the results; by default runs/grid/ and the name of the grid."""
    cache: Path = Path("runs/cache")
    """Folder where pretrained networks are kept between runs."""
    quick: bool = False
    """2 pairs, 2 seeds, 10 steps, 5 methods: shows that it runs, nothing more."""
    quiet: bool = False
    """Print the tally alone, no progress."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Write report.md and report.html for a grid, whole or not."""

    folder: tyro.conf.Positional[Path]
    """Folder of the grid, which holds cells.jsonl."""


def run_grid(command: RunGrid, console: Console) -> None:
    """Runs what is missing, then reports."""
    if command.config not in CONFIGS:
        raise unknown("grid", command.config, CONFIGS)
    chosen = CONFIGS[command.config]
    name = command.config + ("-quick" if command.quick else "")
    folder = command.out or Path("runs/grid") / name
    reporter = Reporter(console, command.quiet)
    run(
        chosen.shortened() if command.quick else chosen, folder, command.cache, reporter
    )
    write_report(Report(folder), console)


def write_report(command: Report, console: Console) -> None:
    """Writes the report and prints the tally."""
    tally = publish(command.folder)
    console.print(Markdown("\n".join(tally)))
    console.print(f"written to {command.folder}/report.html", markup=False)
