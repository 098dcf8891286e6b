"""Ways to change a data set: its size, or what pretraining on it is worth."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data.dataset import Dataset


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
    names = ("upright", "90°", "180°", "270°")
    return Dataset(np.stack(turned), turns.astype(np.int32), name, 4, names)


VARIANTS: dict[str, Callable[[Dataset], Dataset]] = {
    "rotations": rotations,
    "permuted-pixels": permute_pixels,
    "random-labels": random_labels,
}
