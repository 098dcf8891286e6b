"""What PyTorch calls each array of our networks, and how it lays that array out."""

import re
from typing import Any

import numpy as np

from experiments.networks.efficientnet import STAGES

# Where an array is in a network, as NNX gives it: ("stage1", "layers", 0, "conv1", ...)
Path = tuple[Any, ...]

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def resnet_name(path: Path) -> str:
    """The name in torchvision and timm: ``layer1.0.conv1.weight``, ``fc.bias``."""
    first, *middle, leaf = (str(part) for part in path if part != "layers")
    first = "fc" if first == "head" else first.replace("stage", "layer")
    return ".".join([first, *middle, _LEAVES[leaf]])


def efficientnet_name(path: Path) -> str:
    """The name in ``efficientnet_pytorch``: ``_blocks.3._expand_conv.weight``."""
    first, *middle, leaf = (str(part) for part in path if part != "layers")
    if not first.startswith("stage"):
        first = "fc" if first == "head" else first
        return f"_{first}.{_LEAVES[leaf]}"
    position, layer = middle
    # There, blocks are numbered through all stages.
    before = sum(stage.blocks for stage in STAGES[: int(first[-1]) - 1])
    return f"_blocks.{before + int(position)}._{layer}.{_LEAVES[leaf]}"


def from_transformers(name: str) -> str:
    """Torchvision's name for a tensor of transformers' ResNet; others stay as is."""
    name = name.replace("resnet.embedder.embedder.convolution", "conv1")
    name = name.replace("resnet.embedder.embedder.normalization", "bn1")
    name = name.replace("shortcut.convolution", "downsample.0")
    name = name.replace("shortcut.normalization", "downsample.1")
    name = re.sub(r"^classifier\.1\.", "fc.", name)
    counted = (
        (r"^resnet\.encoder\.stages\.(\d+)\.layers\.", "layer{}."),
        (r"\.layer\.(\d+)\.convolution", ".conv{}"),
        (r"\.layer\.(\d+)\.normalization", ".bn{}"),
    )
    for pattern, ours in counted:
        # Theirs are counted from 0, torchvision's from 1.
        name = re.sub(pattern, lambda m, ours=ours: ours.format(int(m[1]) + 1), name)
    return name


def from_torch_layout(tensor: np.ndarray) -> np.ndarray:
    """Convolutions from OIHW to HWIO, matrices from [out, in] to [in, out]."""
    if tensor.ndim == 4:
        return tensor.transpose(2, 3, 1, 0)
    return tensor.T if tensor.ndim == 2 else tensor
