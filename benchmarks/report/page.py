"""Tables and figures from the results: ``benchmarks/README.md``, ``results/*.png``."""

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

import benchmarks
from benchmarks import records
from benchmarks.records import Record
from benchmarks.report import plots, sections
from benchmarks.report.summary import summary


class Section(NamedTuple):
    """What the page says of one benchmark, below the docstring of its module.

    Attributes:
      title: the heading.
      blocks: Markdown for one device.
      overview: Markdown for all devices side by side, above it.
      plot: draws the figure of one device into a file.
    """

    title: str
    blocks: Callable[[Record], list[str]]
    overview: Callable[[Sequence[Record]], list[str]] | None = None
    plot: Callable[[Record, Path], None] | None = None


# In the order of the page.
SECTIONS = {
    "step": Section("A training step", sections.comparisons),
    "peers": Section("Beside other implementations", sections.comparisons),
    "projection": Section(
        "Combining two gradients", sections.projections, sections.rules, plots.rules
    ),
    "compile": Section("Compile time and memory", sections.compilations),
    "scaling": Section("Growth with size", sections.growth, plot=plots.growth),
    "collectives": Section("Communication between devices", sections.promises),
    "import_time": Section("Importing", sections.imports),
}


@dataclasses.dataclass(frozen=True)
class Report:
    """Make benchmarks/README.md, its figures and results/summary.md."""

    check: bool = False
    """Write nothing; fail where a page is out of date."""
    folder: Path = records.FOLDER
    """Folder of the results; the page lies in the folder above."""

    def run(self, console: Console) -> None:
        """Writes what differs, or with ``check`` names it and exits with 1."""
        found = {name: records.read(name, self.folder) for name in SECTIONS}
        pages = {
            self.folder.parent / "README.md": readme(found, self.folder.name),
            self.folder / "summary.md": summary(found),
        }
        stale = [
            path
            for path, text in pages.items()
            if not path.exists() or path.read_text() != text
        ]
        for path in stale:
            console.print(f"{'out of date' if self.check else 'wrote'}: {path}")
        if self.check:
            if stale:
                console.print("put them right with: python -m benchmarks report")
                raise SystemExit(1)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in stale:
            path.write_text(pages[path])
        for name, section in SECTIONS.items():
            for record in found[name]:
                if section.plot:
                    section.plot(record, self.folder / f"{record.stem}.png")


def readme(found: Mapping[str, Sequence[Record]], folder: str) -> str:
    """The page: a heading a benchmark, how it measures, and what it found.

    Args:
      found: the records of each benchmark, by its name.
      folder: where the figures lie, seen from the page.
    """
    blocks = ["# Benchmarks", inspect.cleandoc(benchmarks.__doc__ or "")]
    for name, section in SECTIONS.items():
        module = importlib.import_module(f"benchmarks.{name}")
        blocks += [f"## {section.title}", inspect.cleandoc(module.__doc__ or "")]
        if section.overview and found[name]:
            blocks += section.overview(found[name])
        for record in found[name]:
            if section.plot:
                title = f"{name} on {record.device}"
                blocks.append(f"![{title}]({folder}/{record.stem}.png)")
            blocks += [*section.blocks(record), sections.provenance(record)]
        if not found[name]:
            blocks.append("Not measured yet.")
    made = "<!-- Made by `python -m benchmarks report`; do not edit. -->"
    return "\n\n".join([made, *blocks]) + "\n"
