"""The task of all examples: from scikit-learn's digits 0-4 to its digits 5-9."""

import numpy as np
from sklearn.datasets import load_digits


def _part(low: int) -> tuple[np.ndarray, np.ndarray]:
    """Images ``[n, 64]`` in 0..1 and labels ``[n]`` of the five digits from ``low``."""
    images, labels = load_digits(return_X_y=True)
    rows = (labels >= low) & (labels < low + 5)
    return np.float32(images[rows] / 16), np.int32(labels[rows] - low)


def source() -> tuple[np.ndarray, np.ndarray]:
    """What the network is pretrained on."""
    return _part(0)


def target(per_class: int = 5) -> tuple[tuple, tuple]:
    """A few training images of each class, and all the others to test on."""
    images, labels = _part(5)
    rank = np.array([np.sum(labels[:i] == label) for i, label in enumerate(labels)])
    chosen = rank < per_class
    return (images[chosen], labels[chosen]), (images[~chosen], labels[~chosen])
