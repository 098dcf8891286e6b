"""The outputs of a network's frozen lower part, computed once and cached."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments import digests
from experiments.networks.weights import load

# Increase by hand when a change here or in the networks changes the outputs.
VERSION = 1


def activations(
    network: str,
    start: str,
    images: np.ndarray,
    cache: Path,
    advanced: Callable[[float], None] = lambda _: None,
    weights: str | None = None,
) -> np.ndarray:
    """The outputs of the stage ``start`` for images, float16 ``[n, h, w, c]``.

    Args:
      network: key of ``NETWORKS``.
      start: the last stage of the frozen part.
      images: uint8 ``[n, side, side, 3]``.
      cache: folder of the cache; the file name depends on all other arguments.
      advanced: called with the share of the work that was just done.
      weights: path of the weight file; ``None`` for the ImageNet weights of ``load``.
    """
    name = f"{network}-{start}-{VERSION}-{digests.of_arrays(images)[:16]}"
    if weights is not None:
        name += f"-{digests.of_file(Path(weights))[:16]}"
    path = cache / f"{name}.npy"
    if path.exists():
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            pass  # damaged: made again
    whole = load(network, weights)
    whole.eval()
    graph, state = nnx.split(whole)

    @jax.jit
    def lower(state: Any, batch: jax.Array) -> jax.Array:
        model = nnx.merge(graph, state)
        return model.trunk(model.normalize(batch), start).astype(jnp.float16)

    # The feature maps of a larger batch do not fit in a CPU's cache: at 96 pixels, a
    # batch of 64 takes 1.5 times as long per image.
    size = 16 if jax.default_backend() == "cpu" else 64
    parts = []
    for at in range(0, len(images), size):
        # Pad the last batch, so that there is only one compilation.
        taken = np.minimum(np.arange(at, at + size), len(images) - 1)
        parts.append(np.asarray(lower(state, images[taken])))
        advanced(min(size, len(images) - at) / len(images))
    made = np.concatenate(parts)[: len(images)]
    cache.mkdir(parents=True, exist_ok=True)
    # Renamed when complete, so that an interrupted run leaves no partial entry.
    partial = path.with_suffix(f".{os.getpid()}.npy")
    np.save(partial, made)
    partial.replace(path)
    return made
