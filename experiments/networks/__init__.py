"""Networks in Flax NNX: a small one for the studies, and pretrained ones."""

from experiments.networks.efficientnet import EfficientNetLite0
from experiments.networks.frozen import activations
from experiments.networks.interface import (
    Gates,
    Network,
    Params,
    Spec,
    anchor,
    gated,
    last,
    logits,
)
from experiments.networks.resnet import ResNet
from experiments.networks.small import Architecture
from experiments.networks.staged import StagedNetwork
from experiments.networks.upper import Upper
from experiments.networks.weights import NETWORKS, load, stages_of

__all__ = [
    "NETWORKS", "Architecture", "EfficientNetLite0", "Gates", "Network", "Params",
    "ResNet", "Spec", "StagedNetwork", "Upper", "activations", "anchor", "gated",
    "last", "load", "logits", "stages_of",
]  # fmt: skip
