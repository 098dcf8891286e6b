"""The command that prepares photographs ahead of a study and says what they are.

``python -m experiments data caltech256 --side 96`` downloads or finds the set, decodes
it once into ``runs/data/arrays``, and prints what is in it. Run again, it finds all of
that and prints it in a second or two; after an interruption, whole steps that were
finished (a download, a prepared set) are found, and the unfinished one begins anew.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from tyro.conf import Positional

from experiments.data.cache import Entry, prepare
from experiments.data.photographs import source
from experiments.progress import Reporter


@dataclasses.dataclass(frozen=True)
class Data:
    """Prepare photographs and say what they are."""

    name: Annotated[str, Positional]
    """caltech101, caltech256, mit_indoor67, ..., or folder:PATH for a folder or archive
    of CLASS/x.jpg; an unknown name lists the known."""
    side: int = 96
    """Height and width in pixels."""
    folder: Path = Path("runs/data")
    """Folder of all data; archives obtained by hand belong into archives/ under it."""
    tfds_dir: Path | None = None
    """data_dir of TensorFlow Datasets, with array_record files; tfds/ in the folder."""
    skip_damaged: bool = False
    """Leave out images that cannot be decoded, instead of stopping."""
    quiet: bool = False
    """Print the table alone, no progress."""


def run(config: Data, console: Console) -> None:
    """Prepares the photographs and prints the table."""
    reporter = Reporter(console, config.quiet)
    with reporter.study(1.0), reporter.task(config.name, 1.0) as advanced:
        entry = prepare(
            source(config.name, config.folder, config.tfds_dir),
            config.side,
            config.folder / "arrays",
            skip_damaged=config.skip_damaged,
            warn=reporter.warn,
            advanced=advanced,
        )
    console.print(_table(entry, config.side))
    for key, value in _facts(entry).items():
        console.print(f"{key}: {value}", markup=False, highlight=False, soft_wrap=True)


def _table(entry: Entry, side: int) -> Table:
    table = Table(title=f"{entry.name}, {side}x{side} pixels")
    table.add_column("split")
    for column in ("images", "classes", "images a class", "bytes"):
        table.add_column(column, justify="right")
    for split in entry.about["images"]:
        dataset = entry.dataset(split)
        counts = np.bincount(dataset.labels, minlength=dataset.classes)
        table.add_row(
            split,
            f"{len(dataset.labels):,}",
            str(dataset.classes),
            f"{counts.min()} to {counts.max()}",
            decimal(dataset.images.nbytes),
        )
    return table


def _facts(entry: Entry) -> dict[str, object]:
    left_out = len(entry.about["damaged"])
    return {
        **entry.about["origin"],
        "images left out as damaged": left_out,
        "arrays": entry.folder,
    }
