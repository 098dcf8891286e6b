"""Tables and figures from the results: ``benchmarks/README.md``, ``results/*.png``."""

import dataclasses
import importlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

import benchmarks
from benchmarks import plots, results, sections
from benchmarks.results import FOLDER, Record

# In the order of the page; a benchmark's text is the docstring of its module.
SECTIONS: dict[str, tuple[str, sections.Section]] = {
    "step": ("A training step", sections.of_comparison),
    "amortized": ("Two backward passes now and then", sections.of_comparison),
    "peers": ("Beside other implementations", sections.of_comparison),
    "projection": ("Combining two gradients", sections.of_projection),
    "scaling": ("Growth with size", sections.of_scaling),
    "collectives": ("Communication between devices", sections.of_collectives),
    "import_time": ("Importing", sections.of_import_time),
}
PLOTS = {"projection": plots.of_projection, "scaling": plots.of_scaling}


@dataclasses.dataclass(frozen=True)
class Report:
    """Make benchmarks/README.md, its figures and results/summary.md."""

    check: bool = False
    """Write nothing; fail where a page is out of date."""
    folder: Path = FOLDER
    """Folder of the results; the page lies in the folder above."""

    def run(self, console: Console) -> None:
        """Writes what differs, or with ``check`` names it and exits with 1."""
        records = {name: results.read(name, self.folder) for name in SECTIONS}
        pages = {
            self.folder.parent / "README.md": readme(records, self.folder),
            self.folder / "summary.md": sections.summary(records),
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
        for name, draw in PLOTS.items():
            for record in records[name]:
                draw(record, self.folder / sections.figure_name(record))


def readme(records: Mapping[str, Sequence[Record]], folder: Path) -> str:
    """The page: a heading a benchmark, how it measures, and what it found."""
    blocks = ["# Benchmarks", inspect.cleandoc(benchmarks.__doc__ or "")]
    for name, (title, section) in SECTIONS.items():
        module = importlib.import_module(f"benchmarks.{name}")
        blocks += [f"## {title}", inspect.cleandoc(module.__doc__ or "")]
        found = records[name]
        blocks += section(found, folder) if found else ["Not measured yet."]
    made = "<!-- Made by `python -m benchmarks report`; do not edit. -->"
    return "\n\n".join([made, *blocks]) + "\n"
