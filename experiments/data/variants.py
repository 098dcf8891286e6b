"""Ways to change a data set: its size, or what pretraining on it is worth."""

from collections.abc import Callable
from dataclasses import replace

import jax
import numpy as np

from experiments.data.dataset import Dataset


def resize(dataset: Dataset, side: int) -> Dataset:
    """The same data at ``side`` x ``side`` pixels (bilinear, antialiased)."""
    n, *_, channels = dataset.images.shape
    shape = (n, side, side, channels)
    images = np.asarray(jax.image.resize(dataset.images, shape, "bilinear"))
    return replace(dataset, images=np.clip(images, 0, 1))


def permute_pixels(dataset: Dataset, seed: int = 0) -> Dataset:
    """The pixels in one random order, the same in every image: no local structure."""
    n, height, width, channels = dataset.images.shape
    order = np.random.default_rng(seed).permutation(height * width)
    images = dataset.images.reshape(n, -1, channels)[:, order]
    name = f"{dataset.name}, permuted pixels"
    return replace(dataset, images=images.reshape(dataset.images.shape), name=name)


def random_labels(dataset: Dataset, seed: int = 0) -> Dataset:
    """The labels shuffled among the images: class counts stay, their meaning goes."""
    labels = np.random.default_rng(seed).permutation(dataset.labels)
    return replace(dataset, labels=labels, name=f"{dataset.name}, random labels")


def rotations(dataset: Dataset, seed: int = 0) -> Dataset:
    """Rotation prediction: the class is by how many quarters an image is turned."""
    turns = np.random.default_rng(seed).integers(0, 4, len(dataset.labels))
    images = np.stack(list(map(np.rot90, dataset.images, turns)))
    names = ("upright", "90°", "180°", "270°")
    return Dataset(
        images, turns.astype(np.int32), f"{dataset.name}, rotations", 4, names
    )


VARIANTS: dict[str, Callable[[Dataset], Dataset]] = {
    "rotations": rotations,
    "permuted-pixels": permute_pixels,
    "random-labels": random_labels,
}
