"""Networks in Flax NNX: what the training loop asks of one, and those that there are.

``interface`` is what the loop knows; ``small`` the network of the studies on small
images; ``upper`` makes a pretrained network, or its upper part, fit the interface.
"""

from experiments.networks.efficientnet import EfficientNetLite0
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
from experiments.networks.weights import NETWORKS, load

__all__ = [
    "NETWORKS",
    "Architecture",
    "EfficientNetLite0",
    "Gates",
    "Network",
    "Params",
    "ResNet",
    "Spec",
    "StagedNetwork",
    "Upper",
    "anchor",
    "gated",
    "last",
    "load",
    "logits",
]
