"""Crops and flips of images whose way through the frozen part is computed once."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiments.cell import Target
from experiments.networks import Upper, activations
from experiments.training import augment

# Photographs are read so much larger than what the network sees of them.
MARGIN = 1.15
# Of each image so many random parts are seen in training, fewer where there are many
# images: about as many go through the frozen part in all.
VIEWS, IN_ALL = 8, 4000


def views(images: int) -> int:
    """How many random parts are seen of each of so many images."""
    return int(np.clip(IN_ALL // images, 1, VIEWS))


def through_frozen_part(
    spec: Upper,
    target: Target,
    side: int,
    cache: Path,
    advanced: Callable[[float], None] = lambda _: None,
) -> Target:
    """The target with what the frozen part makes of its images, in their place.

    The middle part of each image comes first, which is what it is judged by; then
    random parts of each, mirrored by chance, of which the training images are made.

    Args:
      spec: which network, and where its frozen part ends.
      target: with uint8 images larger than ``side``.
      side: height and width of the parts in pixels.
      cache: folder in which the result is kept.
      advanced: called with the share of the work that was just done.
    """
    dataset, n = target.dataset, len(target.dataset.labels)
    rng = np.random.default_rng(0)
    seen = np.concatenate(
        [augment.middle(dataset.images, side)]
        + [_random_parts(rng, dataset.images, side) for _ in range(views(n))]
    )
    assert spec.start is not None
    made = activations(
        spec.network, spec.start, seen, cache, advanced, weights=spec.weights
    )
    copies = len(seen) // n
    labels = np.tile(dataset.labels, copies)
    train = np.concatenate(
        [target.train + n * copy for copy in range(1, copies)], axis=1
    )
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
