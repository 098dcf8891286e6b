"""The command ``predict``: classifies images with a network that ``finetune`` saved."""

import dataclasses
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional

from experiments.data import read_image
from experiments.errors import InputError
from experiments.finetune.saved import load
from experiments.training import augment


@dataclasses.dataclass(frozen=True)
class Predict:
    """Classify images with a network made by `finetune`, and print the classes."""

    run: Positional[Path]
    """Folder written by `finetune`."""
    images: Positional[tuple[Path, ...]]
    """Image files."""
    top: int = 3
    """Number of classes to print for each image."""

    def __call__(self, console: Console) -> None:
        if not self.images:
            raise InputError("expected at least one image")
        if self.top < 1:
            raise InputError(f"top must be at least 1, got {self.top}")
        network = load(self.run)
        read = network.about["preprocessing"]["resize"]
        images = np.stack([read_image(path, read) for path in self.images])
        found = network.probabilities(augment.middle(images, network.side))
        table = Table(box=None)
        for name in ("image", "class", "probability"):
            table.add_column(name, overflow="fold")  # never truncate a path
        for path, shares in zip(self.images, found, strict=True):
            for i, k in enumerate(np.argsort(-shares)[: self.top]):
                name = str(path) if i == 0 else ""
                row = name, network.classes[k], f"{100 * shares[k]:.1f} %"
                table.add_row(*map(Text, row))  # names may hold what Rich calls markup
        console.print(table)
