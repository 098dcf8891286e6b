"""Loads networks with pretrained weights by name."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.errors import InputError, unknown
from experiments.networks import weight_files
from experiments.networks.efficientnet import EfficientNetLite0
from experiments.networks.resnet import DEPTHS, ResNet
from experiments.networks.staged import StagedNetwork

CLASSES = 1000  # of ImageNet
_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean"}
_LEAVES |= {"var": "running_var", "bias": "bias"}


class Pretrained(NamedTuple):
    """A network with ImageNet weights: its class, arguments, and weight file."""

    kind: Any  # a subclass of StagedNetwork
    arguments: tuple[int, ...]
    find: Callable[[], Path]

    def build(self, classes: int, *, rngs: nnx.Rngs) -> StagedNetwork:
        """A new network with random weights."""
        return self.kind(*self.arguments, classes, rngs=rngs)


NETWORKS = {
    f"resnet{n}": Pretrained(
        ResNet, (n,), partial(weight_files.from_hub, f"timm/resnet{n}.tv_in1k")
    )
    for n in DEPTHS
}
NETWORKS["efficientnet-lite0"] = Pretrained(
    EfficientNetLite0, (), weight_files.from_package
)


def find(name: str) -> Pretrained:
    """The network of that name. Raises an ``InputError`` that lists the known ones."""
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    return NETWORKS[name]


def stages_of(network: str) -> tuple[str, ...]:
    """The stages of a network, in order, after which training can start."""
    return find(network).kind.stages[:-1]


def load(name: str, path: str | Path | None = None) -> StagedNetwork:
    """A pretrained network, in training mode.

    For another task, give it a new head::

        network = load("resnet18")
        network.head = nnx.Linear(network.head.in_features, classes, rngs=rngs)

    Args:
      name: a key of ``NETWORKS``.
      path: a weight file for any number of classes, with the tensor names of
        torchvision and timm or transformers (ResNet), or efficientnet_pytorch. By
        default, the ImageNet weights from the Hugging Face hub, or for EfficientNet
        from an installed package.

    Raises:
      InputError: if the name is unknown, or the file is missing or does not fit.
    """
    path = find(name).find() if path is None else Path(path)
    return port(name, weight_files.read(path), str(path))


def port(
    name: str, tensors: Mapping[str, np.ndarray], source: str = "weights"
) -> StagedNetwork:
    """The network ``name`` with the tensors of a PyTorch state_dict, in float32.

    Raises:
      InputError: if tensors are missing, unexpected or of another shape; lists them.
    """
    pretrained = find(name)
    found = {
        # Convolutions from OIHW to HWIO, matrices from [out, in] to [in, out].
        _from_transformers(key): x.transpose(2, 3, 1, 0) if x.ndim == 4 else x.T
        for key, x in tensors.items()
        # With a fixed momentum, BatchNorm does not need PyTorch's count of batches.
        if not key.endswith("num_batches_tracked")
    }
    bias = found.get(torch_name(pretrained.kind, ("head", "bias")))
    classes = CLASSES if bias is None else bias.size
    # Only traced for the shapes, because drawing random weights takes half a minute.
    blank = nnx.eval_shape(lambda: pretrained.build(classes, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(blank)
    slots = {
        torch_name(pretrained.kind, p): (p, v) for p, v in nnx.to_flat_state(state)
    }
    wrong = [f"{key} is missing" for key in slots if key not in found]
    wrong += [f"{key} is unexpected" for key in found if key not in slots]
    wrong += [
        f"{key} is {found[key].shape} and not {v.shape} in Flax layout"
        for key, (_, v) in slots.items()
        if key in found and found[key].shape != v.shape
    ]
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise InputError(f"{source} does not fit {name}: {'; '.join(wrong[:5])}{more}")
    filled = [
        (path, v.replace(jnp.asarray(found[key], jnp.float32)))
        for key, (path, v) in slots.items()
    ]
    return nnx.merge(graph, nnx.from_flat_state(filled))


def torch_name(kind: Any, path: tuple[Any, ...]) -> str:
    """PyTorch's name for an array with a path such as (stage1, layers, 0, scale)."""
    *parts, leaf = (str(part) for part in path if part != "layers")
    return kind.torch_name(".".join([*parts, _LEAVES[leaf]]))


def _from_transformers(name: str) -> str:
    """Maps tensor names of transformers' ResNet to torchvision's; keeps others."""
    for pattern, ours in (
        (r"^resnet\.encoder\.stages\.(\d+)\.layers\.", "layer{}."),
        (r"\.layer\.(\d+)\.convolution", ".conv{}"),
        (r"\.layer\.(\d+)\.normalization", ".bn{}"),
        (r"^resnet\.embedder\.embedder\.convolution", "conv1"),
        (r"^resnet\.embedder\.embedder\.normalization", "bn1"),
        (r"\bshortcut\.convolution", "downsample.0"),
        (r"\bshortcut\.normalization", "downsample.1"),
        (r"^classifier\.1\.", "fc."),
    ):
        if match := re.search(pattern, name):
            # Transformers counts from 0, torchvision from 1.
            counts = [int(n) + 1 for n in match.groups()]
            name = name.replace(match[0], ours.format(*counts))
    return name
