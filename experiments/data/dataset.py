"""The one form in which every experiment gets its images, and few-shot splits."""

import dataclasses

import numpy as np

from experiments.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images: small sets in memory, photographs mapped from a file.

    Attributes:
      images: for the small sets float32 ``[n, height, width, 1]`` in 0..1; for
        photographs uint8 ``[n, side, side, 3]`` in 0..255, a read-only
        ``numpy.memmap``, so that only the rows which are asked for are read.
      labels: int32 ``[n]``, in 0..classes-1.
      name: what tables and figures call it.
      classes: how many classes there are.
      class_names: one a class, where they are known; empty where not.
      held_out: where the set has a split of its own, the index from which on images
        are for testing alone; ``None`` where ``few_shot`` is free to divide it.
    """

    images: np.ndarray
    labels: np.ndarray
    name: str
    classes: int
    class_names: tuple[str, ...] = ()
    held_out: int | None = None


def with_test_split(train: Dataset, test: Dataset) -> Dataset:
    """The two splits of a set as one, of which the second is held out."""
    return dataclasses.replace(
        train,
        images=np.concatenate([train.images, test.images]),
        labels=np.concatenate([train.labels, test.labels]),
        held_out=len(train.labels),
    )


def few_shot(
    dataset: Dataset, per_class: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Splits a data set into a small training set and a held-out test set.

    Args:
      dataset: what to split, ``n`` images.
      per_class: training images of each class.
      seed: which images are drawn.

    Returns:
      Two int32 arrays of indices: training ``[per_class * classes]`` and test (all the
      others, or those that the set holds out). They have no index in common.

    Raises:
      InputError: if a class has too few images, or would have none left to test on.
    """
    begin = dataset.held_out
    drawn_from = dataset.labels[:begin]
    smallest = int(np.bincount(drawn_from, minlength=dataset.classes).min())
    most, why = smallest, "all that there are"
    if begin is None:
        most, why = smallest - 1, "so that every class has images to test on"
    if not 0 < per_class <= most:
        raise InputError(
            f"cannot take {per_class} images of each class of {dataset.name} for "
            f"training: at least 1, and at most {most}, {why}"
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(drawn_from))
    ranked = order[np.argsort(dataset.labels[order], kind="stable")]
    labels = dataset.labels[ranked]
    rank_in_class = np.arange(len(labels)) - np.searchsorted(labels, labels)
    chosen = rank_in_class < per_class
    test = ranked[~chosen]
    if begin is not None:
        test = np.arange(begin, len(dataset.labels))
    return ranked[chosen].astype(np.int32), test.astype(np.int32)
