"""The predictions of trained networks."""

import functools

import jax
import numpy as np

from experiments import networks
from experiments.data import Dataset
from experiments.training import augment

# Number of images that are classified at once.
BATCH = 500


@functools.partial(jax.jit, static_argnames="spec")
def _probabilities(
    spec: networks.Spec, params: networks.Params, seed: int, images: jax.Array
) -> jax.Array:
    network = spec.build(jax.tree.map(lambda x: x[seed], params))
    return jax.nn.softmax(networks.logits(network, images))


def probabilities(
    spec: networks.Spec,
    params: networks.Params,
    dataset: Dataset,
    members: np.ndarray,
    crop: int | None = None,
) -> np.ndarray:
    """The probabilities from each of ``S`` networks, float32 ``[S, m, classes]``.

    If a run has several processes, each classifies all images by itself.

    Args:
      spec: the networks' spec.
      params: parameters, whole in this process; every array has a leading axis of
        ``S``.
      dataset: the images that ``members`` indexes.
      members: int32 ``[S, m]``, the images of each network.
      crop: side in pixels of the center crop; ``None`` for whole images.
    """

    # One network and some images at a time, because all at once would take gigabytes.
    def of_seed(seed: int) -> np.ndarray:
        parts = np.array_split(members[seed], -(-members.shape[1] // BATCH))
        found = []
        for rows in parts:
            images = dataset.images[rows]
            images = images if crop is None else augment.middle(images, crop)
            found.append(_probabilities(spec, params, seed, images))
        return np.concatenate(jax.device_get(found))

    return np.stack([of_seed(seed) for seed in range(len(members))])


def right(shares: np.ndarray, dataset: Dataset, members: np.ndarray) -> np.ndarray:
    """The accuracy ``[S]`` of what ``probabilities`` returned, as a fraction."""
    return (shares.argmax(axis=-1) == dataset.labels[members]).mean(axis=-1)
