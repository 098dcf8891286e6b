"""What a training loop needs from a network, and functions it applies to one."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp

# Nested dicts of arrays. At the top level, "head" is the new layer, the rest the body.
Params = dict[str, Any]
# For each feature map, the factors ``[channels]`` that multiply its channels.
Gates = Mapping[str, jax.Array]


class Network(Protocol):
    """A body that computes features, and a head that maps the last to logits."""

    head: Callable[[jax.Array], jax.Array]

    def features(self, images: Any, *, gates: Gates | None = None) -> dict[str, Any]:
        """The feature maps ``[n, ..., channels]``, by name, from input to output.

        ``images`` is a batch as stored in the data set, ``[n, ...]`` of any dtype.
        """
        ...


class Spec(Protocol):
    """Which network to train: a frozen dataclass, a static argument of a jit."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def classes(self) -> int:
        """Number of outputs of the head. A field, so that it can be replaced."""
        ...

    def init(self, key: jax.Array) -> Params:
        """New parameters."""
        ...

    def build(self, params: Params) -> Network:
        """The network with these parameters, traced or not, as returned by ``init``."""
        ...


def logits(network: Network, images: Any, gates: Gates | None = None) -> jax.Array:
    """Logits ``[n, classes]``."""
    return network.head(last(network.features(images, gates=gates)))


def last(features: dict[str, jax.Array]) -> jax.Array:
    """The features that the head takes."""
    return features[next(reversed(features))]


def gated(name: str, x: jax.Array, gates: Gates | None) -> jax.Array:
    """Multiplies the channels of a map ``[n, ..., channels]`` by their gates."""
    return x if gates is None else x * jnp.broadcast_to(gates[name], x.shape)
