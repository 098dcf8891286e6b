"""Pretrained networks in Flax NNX, in stages that can be run in part."""

from experiments.networks.efficientnet import EfficientNetLite0
from experiments.networks.resnet import ResNet
from experiments.networks.staged import StagedNetwork
from experiments.networks.weights import NETWORKS, load

__all__ = ["NETWORKS", "EfficientNetLite0", "ResNet", "StagedNetwork", "load"]
