"""The data set type of all experiments, and few-shot splits."""

import dataclasses

import numpy as np

from experiments.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images.

    Attributes:
      images: small images are float32 ``[n, height, width, 1]`` in 0..1. Photographs
        are uint8 ``[n, side, side, 3]``, memory-mapped, so only the rows in use are
        read.
      labels: int32 ``[n]``, in 0..classes-1.
      name: name in tables and figures.
      classes: number of classes.
      class_names: names by label; empty if unknown.
      held_out: the row at which the test split begins, if there is one.
    """

    images: np.ndarray
    labels: np.ndarray
    name: str
    classes: int
    class_names: tuple[str, ...] = ()
    held_out: int | None = None


def with_test_split(train: Dataset, test: Dataset) -> Dataset:
    """Joins two splits into one data set; the second is held out for testing."""
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
      int32 rows of the training images, sorted by class, and of the test images, which
      are the held-out images of the data set, or else all others.

    Raises:
      InputError: if a class has too few images, or would have no test images left.
    """
    begin = dataset.held_out
    labels = dataset.labels[:begin]
    most = np.bincount(labels, minlength=dataset.classes).min() - (begin is None)
    if not 0 < per_class <= most:
        why = "so that every class has test images"
        raise InputError(
            f"cannot take {per_class} images of each class of {dataset.name} for "
            f"training: expected at least 1, and at most {most}, "
            + (why if begin is None else "the size of the smallest class")
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    ranked = order[np.argsort(labels[order], kind="stable")]
    in_order = labels[ranked]
    rank_in_class = np.arange(len(labels)) - np.searchsorted(in_order, in_order)
    chosen = rank_in_class < per_class
    test = ranked[~chosen] if begin is None else np.arange(begin, len(dataset.labels))
    return ranked[chosen].astype(np.int32), test.astype(np.int32)
