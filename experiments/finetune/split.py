"""Splits the user's own images into training, validation and test images."""

from collections.abc import Callable, Mapping

import numpy as np

from experiments.cell import Target
from experiments.data import Dataset
from experiments.errors import InputError

# If a folder has no such split, one in this many images of each class, and at least
# one, is held out for validation, and as many for testing.
ONE_IN = 5
HELD_OUT = "validation", "test"


def split(
    splits: Mapping[str, Dataset], seeds: int, say: Callable[[str], None]
) -> Target:
    """The target task from the splits of a folder. Each seed draws the missing splits.

    Args:
      splits: those of ``"train"``, ``"validation"`` and ``"test"`` that exist, or
        ``"all"``; they share their classes.
      seeds: number of draws.
      say: called with a message about the sizes of the splits and which were drawn.

    Raises:
      InputError: if a class has too few images to draw from.
    """
    first = "train" if "train" in splits else "all"
    if first not in splits:
        raise InputError(f"found images for {', '.join(splits)}, but none for training")
    given = [name for name in HELD_OUT if name in splits]
    drawn = [name for name in HELD_OUT if name not in splits]
    whole = _joined([splits[name] for name in (first, *given)])
    ends = np.cumsum([len(splits[name].labels) for name in (first, *given)])
    first_rows, *given_rows = np.split(np.arange(ends[-1], dtype=np.int32), ends[:-1])
    parts = {
        name: np.tile(rows, (seeds, 1))
        for name, rows in zip(given, given_rows, strict=True)
    }
    draws = [_draw(whole, first_rows, drawn, seed) for seed in range(seeds)]
    for name in ("train", *drawn):
        parts[name] = np.stack([draw[name] for draw in draws])
    train, validation, test = (parts[name] for name in ("train", *HELD_OUT))
    words = [] if not drawn else [f"each seed draws its own for {' and '.join(drawn)}"]
    say(
        f"{whole.classes} classes; {train.shape[1]} images for training, "
        f"{validation.shape[1]} for validation, {test.shape[1]} for test"
        + "".join(f" ({text})" for text in words)
    )
    return Target(whole, train, test, range(seeds), validation)


def _joined(datasets: list[Dataset]) -> Dataset:
    first = datasets[0]
    images = np.concatenate([dataset.images for dataset in datasets])
    labels = np.concatenate([dataset.labels for dataset in datasets])
    return Dataset(images, labels, first.name, first.classes, first.class_names)


def _draw(
    whole: Dataset, rows: np.ndarray, names: list[str], seed: int
) -> dict[str, np.ndarray]:
    """One seed's rows of each split, drawn by class, and the rest for training."""
    rng = np.random.default_rng(seed)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in (*names, "train")}
    for label, class_name in enumerate(whole.class_names):
        own = rng.permutation(rows[whole.labels[rows] == label])
        held_out = max(1, len(own) // ONE_IN)
        if len(own) <= held_out * len(names):
            raise InputError(
                f"class {class_name!r} has {len(own)} images to train on, expected at "
                f"least {len(names) + 1}: one is held out for {' and '.join(names)}"
                if names
                else f"class {class_name!r} has no images to train on"
            )
        for i, name in enumerate(names):
            parts[name].append(own[i * held_out : (i + 1) * held_out])
        parts["train"].append(own[len(names) * held_out :])
    return {name: np.sort(np.concatenate(each)) for name, each in parts.items()}
