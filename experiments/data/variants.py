"""Changes a data set: its size, or how useful it is for pretraining."""

from collections.abc import Callable
from dataclasses import replace

import jax
import numpy as np

from experiments.data.dataset import Dataset

# A variant is the same for all seeds of a study.
SEED = 0


def resize(dataset: Dataset, side: int) -> Dataset:
    """The same data at ``side`` x ``side`` pixels (bilinear, antialiased)."""
    n, *_, channels = dataset.images.shape
    shape = (n, side, side, channels)
    images = np.asarray(jax.image.resize(dataset.images, shape, "bilinear"))
    return replace(dataset, images=np.clip(images, 0, 1))


def permute_pixels(dataset: Dataset) -> Dataset:
    """Permutes the pixels, equally in every image, which destroys local structure."""
    n, height, width, channels = dataset.images.shape
    order = np.random.default_rng(SEED).permutation(height * width)
    images = dataset.images.reshape(n, -1, channels)[:, order]
    name = f"{dataset.name}, permuted pixels"
    return replace(dataset, images=images.reshape(dataset.images.shape), name=name)


def random_labels(dataset: Dataset) -> Dataset:
    """Shuffles the labels among the images. The class counts stay the same."""
    labels = np.random.default_rng(SEED).permutation(dataset.labels)
    return replace(dataset, labels=labels, name=f"{dataset.name}, random labels")


def rotations(dataset: Dataset) -> Dataset:
    """Rotation prediction: the label is the number of quarter turns of the image."""
    turns = np.random.default_rng(SEED).integers(0, 4, len(dataset.labels))
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
