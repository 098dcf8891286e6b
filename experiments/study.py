"""What the demo and the studies have in common: their options, and what they check."""

import dataclasses
from pathlib import Path

from experiments.errors import InputError

LEAST = {"seeds": 2, "per_class": 1, "steps": 1, "epochs": 1}


@dataclasses.dataclass(frozen=True)
class Study:
    """Options of a study on few images of a small target, from pretrained networks."""

    out: Path = Path("runs")
    """Folder for the results; made where it is missing."""
    cache: Path = Path("runs/cache")
    """Folder where pretrained networks are kept between runs."""
    seeds: int = 10
    """Independent repetitions, at least 2: pretraining, images, head and order vary."""
    per_class: int = 3
    """Training images of each class of the target; the others are held out."""
    steps: int = 200
    """Updates in fine-tuning, of 10 images each."""
    epochs: int = 20
    """Passes over the source in pretraining."""
    quiet: bool = False
    """Print the table alone, no progress."""

    def check(self) -> None:
        """Raises an ``InputError`` for what can be seen to be wrong before any work."""
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise InputError(
                    f"{name} must be at least {least}, got {getattr(self, name)}"
                )
