"""An NNX network, and what is read in training it, as pure functions and arrays."""

from typing import Any, NamedTuple

import jax
from flax import nnx


class Outputs(NamedTuple):
    """Logits ``[n, classes]``, and feature maps ``[n, ..., channels]`` by name."""

    logits: jax.Array
    maps: dict[str, jax.Array]


class Inputs(NamedTuple):
    """What a step reads.

    Attributes:
      images: float32 ``[n, pixels, pixels, 3]``.
      labels: int32 ``[n]``.
      pretrained: parameters and BatchNorm statistics before fine-tuning.
      targets: the teacher's :class:`Outputs` for these images, computed beforehand.
    """

    images: jax.Array
    labels: jax.Array
    pretrained: tuple[Any, Any]
    targets: Outputs


class Network:
    """An NNX network as pure functions of nested dicts of arrays."""

    def __init__(self, model: Any):
        self.graph, params, statistics = nnx.split(model, nnx.Param, ...)
        self.pretrained = nnx.to_pure_dict(params), nnx.to_pure_dict(statistics)
        model.eval()
        self.frozen_graph = nnx.graphdef(model)

    def student(
        self, params: Any, statistics: Any, images: jax.Array
    ) -> tuple[Outputs, Any]:
        """Outputs in training mode, and the new BatchNorm statistics."""
        model = _merge(self.graph, params, statistics)
        outputs = _outputs(model, images)
        return outputs, nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Param)))

    def teacher(self, pretrained: tuple[Any, Any], images: jax.Array) -> Outputs:
        """Outputs in evaluation mode."""
        return _outputs(_merge(self.frozen_graph, *pretrained), images)


def _merge(graph: Any, params: Any, statistics: Any) -> Any:
    return nnx.merge(graph, nnx.State(params), nnx.State(statistics))


def _outputs(model: Any, images: jax.Array) -> Outputs:
    maps = model.features(images)
    pooled = maps.pop("pooled")
    return Outputs(model.head(pooled), maps)
