"""Crops and flips of images, whose frozen-part outputs are computed once."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiments.cell import Target
from experiments.networks import Upper, activations
from experiments.training import augment

# Ratio of the size at which photographs are read to the crop that the network sees.
MARGIN = 1.15
# Maximum number of random crops of each image for training, and approximate maximum
# number of random crops in all: with many images, there are fewer crops of each.
VIEWS, IN_ALL = 8, 4000


def views(images: int) -> int:
    """The number of random crops of each of this many images."""
    return int(np.clip(IN_ALL // images, 1, VIEWS))


def through_frozen_part(
    spec: Upper,
    target: Target,
    side: int,
    cache: Path,
    advanced: Callable[[float], None] = lambda _: None,
) -> Target:
    """Replaces the images of a target by the outputs of the frozen part.

    The center crop of each image comes first and is used for evaluation. Then come
    random crops of each training image, randomly mirrored, which are used for training.

    Args:
      spec: the network, with the end of its frozen part.
      target: the target, with uint8 images larger than ``side``.
      side: height and width of the crops in pixels.
      cache: folder in which the result is kept.
      advanced: called with the share of the work that was just done.
    """
    dataset, n = target.dataset, len(target.dataset.labels)
    rng = np.random.default_rng(0)
    rows = np.unique(target.train)  # of any seed
    copies = range(views(len(rows)))
    seen = np.concatenate(
        [augment.middle(dataset.images, side)]
        + [_random_parts(rng, dataset.images[rows], side) for _ in copies]
    )
    assert spec.start is not None
    made = activations(
        spec.network, spec.start, seen, cache, advanced, weights=spec.weights
    )
    labels = np.concatenate([dataset.labels, *(dataset.labels[rows] for _ in copies)])
    first = n + np.searchsorted(rows, target.train)
    train = np.concatenate([first + len(rows) * copy for copy in copies], axis=1)
    wider = dataclasses.replace(dataset, images=made, labels=labels)
    return dataclasses.replace(target, dataset=wider, train=train)


def _random_parts(
    rng: np.random.Generator, images: np.ndarray, side: int
) -> np.ndarray:
    parts = np.empty((len(images), side, side, 3), np.uint8)
    for i, image in enumerate(images):
        top, left = rng.integers(0, image.shape[0] - side + 1, 2)
        part = image[top : top + side, left : left + side]
        parts[i] = part[:, ::-1] if rng.random() < 0.5 else part
    return parts
