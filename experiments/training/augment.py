"""Random crops of training images, and center crops of the others."""

import jax
import jax.numpy as jnp
import numpy as np


def random_crops(key: jax.Array, images: jax.Array, side: int) -> jax.Array:
    """Crops each image independently at random, and mirrors it with probability 1/2.

    Args:
      key: a random key.
      images: ``[n, height, width, channels]``.
      side: height and width of the crops, at most those of the images.

    Returns:
      ``[n, side, side, channels]`` of the same dtype.
    """

    def one(key, image):
        height, width, channels = image.shape
        where, mirror = jax.random.split(key)
        limits = jnp.array([height - side + 1, width - side + 1])
        top, left = jax.random.randint(where, (2,), 0, limits)
        size = (side, side, channels)
        part = jax.lax.dynamic_slice(image, (top, left, jnp.zeros_like(top)), size)
        return jnp.where(jax.random.bernoulli(mirror), part[:, ::-1], part)

    return jax.vmap(one)(jax.random.split(key, len(images)), images)


def middle(images: np.ndarray, side: int) -> np.ndarray:
    """Center crops, from ``[n, height, width, c]`` to ``[n, side, side, c]``."""
    top, left = ((length - side) // 2 for length in images.shape[1:3])
    return images[:, top : top + side, left : left + side]
