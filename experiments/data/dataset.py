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
    """

    images: np.ndarray
    labels: np.ndarray
    name: str
    classes: int
    class_names: tuple[str, ...] = ()


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
      others). They have no index in common.

    Raises:
      InputError: if a class would have no image left to test on.
    """
    smallest = int(np.bincount(dataset.labels, minlength=dataset.classes).min())
    if not 0 < per_class < smallest:
        raise InputError(
            f"cannot take {per_class} images of each class of {dataset.name} for "
            f"training: at least 1, and at most {smallest - 1} so that every class has "
            "images to test on"
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(dataset.labels))
    ranked = order[np.argsort(dataset.labels[order], kind="stable")]
    labels = dataset.labels[ranked]
    rank_in_class = np.arange(len(labels)) - np.searchsorted(labels, labels)
    chosen = rank_in_class < per_class
    return ranked[chosen].astype(np.int32), ranked[~chosen].astype(np.int32)
