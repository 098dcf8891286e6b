"""The task of all examples: transfer from scikit-learn's digits 0-4 to digits 5-9."""

import numpy as np
from sklearn.datasets import load_digits


def _part(low: int) -> tuple[np.ndarray, np.ndarray]:
    """Images ``[n, 64]`` in 0..1 and labels ``[n]`` of five digits from ``low`` on."""
    images, labels = load_digits(return_X_y=True)
    rows = (labels >= low) & (labels < low + 5)
    return np.float32(images[rows] / 16), np.int32(labels[rows] - low)


def source() -> tuple[np.ndarray, np.ndarray]:
    """Images and labels for pretraining."""
    return _part(0)


def target() -> tuple[tuple, tuple]:
    """Five training images per class, and all others as test images."""
    images, labels = _part(5)
    rank = np.array([np.sum(labels[:i] == label) for i, label in enumerate(labels)])
    chosen = rank < 5
    return (images[chosen], labels[chosen]), (images[~chosen], labels[~chosen])
