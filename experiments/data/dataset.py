"""The one form in which every experiment gets its images, and few-shot splits."""

import dataclasses

import numpy as np

from experiments.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images.

    Attributes:
      images: of the small sets float32 ``[n, height, width, 1]`` in 0..1; photographs
        uint8 ``[n, side, side, 3]``, mapped from a file, of which only the rows that
        are asked for are read.
      labels: int32 ``[n]``, in 0..classes-1.
      name: what tables and figures call it.
      classes: how many classes there are.
      class_names: by label; empty where they are unknown.
      held_out: where the set has a test split, the row at which that begins.
    """

    images: np.ndarray
    labels: np.ndarray
    name: str
    classes: int
    class_names: tuple[str, ...] = ()
    held_out: int | None = None


def with_test_split(train: Dataset, test: Dataset) -> Dataset:
    """The two splits of a set as one, of which the second is held out."""
    images = np.concatenate([train.images, test.images])
    labels = np.concatenate([train.labels, test.labels])
    return dataclasses.replace(
        train, images=images, labels=labels, held_out=len(train.labels)
    )


def few_shot(
    dataset: Dataset, per_class: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a small training set, ``per_class`` images of each class.

    Returns:
      int32 rows of the training images, and of the images to test on: those that the
      set holds out, or all others.

    Raises:
      InputError: if a class has too few images, or would have none left to test on.
    """
    begin = dataset.held_out
    labels = dataset.labels[:begin]
    most = np.bincount(labels, minlength=dataset.classes).min() - (begin is None)
    if not 0 < per_class <= most:
        why = "so that every class has images to test on"
        raise InputError(
            f"cannot take {per_class} images of each class of {dataset.name} for "
            f"training: at least 1, and at most {most}, "
            + (why if begin is None else "all that there are")
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    ranked = order[np.argsort(labels[order], kind="stable")]
    in_order = labels[ranked]
    rank_in_class = np.arange(len(labels)) - np.searchsorted(in_order, in_order)
    chosen = rank_in_class < per_class
    test = ranked[~chosen] if begin is None else np.arange(begin, len(dataset.labels))
    return ranked[chosen].astype(np.int32), test.astype(np.int32)
