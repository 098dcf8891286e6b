"""Networks in Flax NNX: a small one for the studies, and pretrained ones."""

from experiments.networks.frozen import activations
from experiments.networks.interface import Params, Spec, last, logits
from experiments.networks.resnet import ResNet
from experiments.networks.small import Architecture
from experiments.networks.upper import Upper
from experiments.networks.weights import NETWORKS, load, stages_of

__all__ = [
    "NETWORKS", "Architecture", "Params", "ResNet", "Spec", "Upper", "activations",
    "last", "load", "logits", "stages_of",
]  # fmt: skip
