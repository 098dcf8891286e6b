"""What the training loop asks of a network, and what it makes of one."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp

# Nested dicts of arrays; at the top "head", the layer that is new, beside the body's.
Params = dict[str, Any]
Gates = Mapping[str, jax.Array]


class Network(Protocol):
    """A body that makes features, and a head that makes logits of the last of them."""

    head: Callable[[jax.Array], jax.Array]

    def features(
        self, images: Any, *, gates: Gates | None = None
    ) -> dict[str, jax.Array]:
        """The feature maps ``[n, ..., channels]``, by name, from input to output.

        Args:
          images: a batch, as the data set stores it: ``[n, ...]`` of any dtype.
          gates: for each map, factors ``[channels]`` by which its channels are
            multiplied before anything is made of them; ``None`` for all ones.
        """
        ...


class Spec(Protocol):
    """Which network to train: a frozen dataclass, a static argument of a jit."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def classes(self) -> int:
        """Outputs of the head; a field, so that it can be replaced."""
        ...

    def init(self, key: jax.Array) -> Params:
        """New parameters."""
        ...

    def build(self, params: Params) -> Network:
        """The network with these parameters, traced or not, as ``init`` gives them."""
        ...


def logits(network: Network, images: Any, gates: Gates | None = None) -> jax.Array:
    """Logits ``[n, classes]``."""
    return network.head(last(network.features(images, gates=gates)))


def last(features: dict[str, jax.Array]) -> jax.Array:
    """The features that the head takes."""
    return features[next(reversed(features))]


def gated(name: str, x: jax.Array, gates: Gates | None) -> jax.Array:
    """A map ``[n, ..., channels]`` with its channels multiplied by their gates."""
    return x if gates is None else x * jnp.broadcast_to(gates[name], x.shape)


def anchor(params: Params) -> Params:
    """Where a regularizer pulls to: the body as it is, ``None`` for the (new) head."""
    return {**params, "head": jax.tree.map(lambda _: None, params["head"])}
