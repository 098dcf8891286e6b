"""A pretrained network, or the upper part of one, as the training loop takes it.

Where the lower part is frozen, what it makes of every image is computed once, and a
training step costs what the upper part costs.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.networks.interface import Gates, Params, gated
from experiments.networks.staged import StagedNetwork
from experiments.networks.weights import NETWORKS, load

# Images that go through the frozen part at once.
BATCH = 64


class FrozenNorm(nnx.Module):
    """BatchNorm with fixed statistics, folded into ``scale`` and ``bias``.

    What a network pretrained on millions of images knows of its activations is not
    estimated anew from a few batches of the target; and so parameters are all there is.
    """

    def __init__(self, norm: nnx.BatchNorm):
        assert norm.scale is not None
        assert norm.bias is not None
        scale = norm.scale[...] * jax.lax.rsqrt(norm.var[...] + norm.epsilon)
        self.scale = nnx.Param(scale)
        self.bias = nnx.Param(norm.bias[...] - norm.mean[...] * scale)

    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (1,) * (x.ndim - 1) + (-1,)
        return x * self.scale[...].reshape(shape) + self.bias[...].reshape(shape)


class UpperNetwork(nnx.Module):
    """The stages of a network behind one of them, its norms frozen, and a new head."""

    def __init__(
        self,
        network: StagedNetwork,
        start: str | None,
        classes: int,
        *,
        rngs: nnx.Rngs,
    ):
        if start is not None:
            network.drop_trunk(start)
        _freeze_norms(network)
        self.head = nnx.Linear(network.head.in_features, classes, rngs=rngs)
        del network.head
        self.body, self.start = network, start
        begin = 0 if start is None else network.stages.index(start) + 1
        self.stages = network.stages[begin:]

    def features(
        self, images: jax.Array, *, gates: Gates | None = None
    ) -> dict[str, jax.Array]:
        """What each stage makes of images, or of the cached output of ``start``."""
        if self.start is None:
            x = self.body.stem(self.body.normalize(images))
        else:
            x = images.astype(jnp.float32)
        maps = {}
        for name in self.stages:
            x = maps[name] = gated(name, getattr(self.body, name)(x), gates)
        return maps


def _freeze_norms(network: nnx.Module) -> None:
    for _, module in list(nnx.iter_modules(network)):
        for name, child in list(vars(module).items()):
            if isinstance(child, nnx.BatchNorm):
                setattr(module, name, FrozenNorm(child))
        if isinstance(module, nnx.Sequential):
            module.layers = nnx.List(
                [
                    FrozenNorm(x) if isinstance(x, nnx.BatchNorm) else x
                    for x in module.layers
                ]
            )


@dataclasses.dataclass(frozen=True)
class Upper:
    """What comes after one stage of a pretrained network; a ``Spec``.

    Attributes:
      network: key of ``NETWORKS``.
      start: the stage whose outputs are the input; ``None`` for the whole network,
        which takes uint8 images.
      classes: outputs of the head.
    """

    network: str
    start: str | None
    classes: int = 1000

    # Jitted, because array by array the initializers take seconds to compile.
    @functools.partial(jax.jit, static_argnames="self")
    def init(self, key: jax.Array) -> Params:
        """New parameters, all random."""
        return _params(self._new(nnx.Rngs(key)))

    def build(self, params: Params) -> UpperNetwork:
        """The network with these parameters (traced or not), as ``init`` gives them."""
        graph = nnx.graphdef(nnx.eval_shape(lambda: self._new(nnx.Rngs(0))))
        return nnx.merge(graph, nnx.State(params))

    def pretrained(self) -> Params:
        """ImageNet's parameters, and a random head."""
        network = load(self.network)
        return _params(
            UpperNetwork(network, self.start, self.classes, rngs=nnx.Rngs(0))
        )

    def _new(self, rngs: nnx.Rngs) -> UpperNetwork:
        network = NETWORKS[self.network].build(rngs=rngs)
        return UpperNetwork(network, self.start, self.classes, rngs=rngs)


def _params(network: UpperNetwork) -> Params:
    params: Params = nnx.to_pure_dict(nnx.state(network, nnx.Param))
    return params


def activations(
    network: str,
    start: str,
    images: np.ndarray,
    cache: Path,
    advanced: Callable[[float], None] = lambda _: None,
) -> np.ndarray:
    """What the frozen lower part makes of images, float16 ``[n, h, w, c]``.

    Args:
      network: key of ``NETWORKS``.
      start: the last stage of the lower part.
      images: uint8 ``[n, side, side, 3]``.
      cache: folder in which they are kept, under a name made of all of the above.
      advanced: called with the share of the work that was just done.
    """
    pixels = hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()
    path = cache / f"{network}-{start}-{images.shape[1]}px-{pixels[:16]}.npy"
    if path.exists():
        return np.load(path, mmap_mode="r", allow_pickle=False)
    whole = load(network)
    whole.eval()
    graph, state = nnx.split(whole)

    @jax.jit
    def lower(state: Any, batch: jax.Array) -> jax.Array:
        model = nnx.merge(graph, state)
        return model.trunk(model.normalize(batch), start).astype(jnp.float16)

    parts = []
    for at in range(0, len(images), BATCH):
        batch = np.asarray(images[at : at + BATCH])
        # The last batch is filled up, so that there is one compilation.
        filled = np.concatenate([batch, np.repeat(batch[-1:], BATCH - len(batch), 0)])
        parts.append(np.asarray(lower(state, filled))[: len(batch)])
        advanced(len(batch) / len(images))
    made = np.concatenate(parts)
    cache.mkdir(parents=True, exist_ok=True)
    # Renamed when whole: a run that is cut short leaves nothing that looks finished.
    partial = path.with_suffix(".partial.npy")
    np.save(partial, made)
    partial.replace(path)
    return made
