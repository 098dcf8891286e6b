"""From a name to a network with its pretrained weights."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.errors import InputError, unknown
from experiments.networks import naming, resnet, sources
from experiments.networks.efficientnet import EfficientNetLite0
from experiments.networks.staged import StagedNetwork

CLASSES = 1000  # of ImageNet


class Pretrained(NamedTuple):
    """A network that there are ImageNet weights of.

    Attributes:
      build: makes the network from the keyword ``rngs``.
      torch_name: what a weight file calls the array at a path.
      find: gives the path of the weight file, fetching it where that can be done.
    """

    build: Callable[..., StagedNetwork]
    torch_name: Callable[[naming.Path], str]
    find: Callable[[], Path]


NETWORKS = {
    **{
        f"resnet{depth}": Pretrained(
            functools.partial(resnet.ResNet, depth, CLASSES),
            naming.resnet_name,
            functools.partial(sources.from_hub, f"timm/resnet{depth}.tv_in1k"),
        )
        for depth in resnet.DEPTHS
    },
    "efficientnet-lite0": Pretrained(
        functools.partial(EfficientNetLite0, CLASSES),
        naming.efficientnet_name,
        sources.from_package,
    ),
}


def load(name: str, path: Path | None = None) -> StagedNetwork:
    """A network with ImageNet weights and 1,000 classes, in training mode.

    For another task, give it a new head::

        network = load("resnet18")
        network.head = nnx.Linear(network.head.in_features, classes, rngs=rngs)

    Args:
      name: a key of ``NETWORKS``.
      path: the weight file, with the names of torchvision and timm or of transformers
        (ResNet) or of efficientnet_pytorch; by default it is fetched: ResNet's from
        the Hugging Face hub, EfficientNet's from an installed package.

    Raises:
      InputError: if the name is unknown, there is no file, or it does not fit.
    """
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    path = NETWORKS[name].find() if path is None else path
    try:
        return port(name, sources.read(path))
    except MisfitError as error:
        raise InputError(f"{path} does not fit {name}: {error}") from None


class MisfitError(InputError):
    """Tensors that are not those of the network; the message says which."""


def port(name: str, tensors: Mapping[str, np.ndarray]) -> StagedNetwork:
    """The network ``name`` with the weights of a PyTorch state_dict.

    Args:
      name: a key of ``NETWORKS``.
      tensors: arrays by their name in PyTorch, laid out as PyTorch does; they are
        converted to float32.

    Raises:
      MisfitError: if tensors are missing, unexpected or of another shape.
    """
    build, torch_name, _ = NETWORKS[name]
    # Traced for its shapes only: drawing initial weights would take half a minute.
    graph, state = nnx.split(nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0))))
    variables = {torch_name(path): (path, v) for path, v in nnx.to_flat_state(state)}
    found = {
        naming.from_transformers(key): naming.from_torch_layout(tensor)
        for key, tensor in tensors.items()
        # How many batches PyTorch's BatchNorm saw is not needed with a fixed momentum.
        if not key.endswith("num_batches_tracked")
    }
    _check({key: v.shape for key, (_, v) in variables.items()}, found)
    filled = [
        (path, v.replace(jnp.asarray(found[key], jnp.float32)))
        for key, (path, v) in variables.items()
    ]
    return nnx.merge(graph, nnx.from_flat_state(filled))


def _check(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, np.ndarray]
) -> None:
    complaints = {
        "missing": [key for key in expected if key not in found],
        "unexpected": [key for key in found if key not in expected],
        "of another shape (as Flax lays them out)": [
            f"{key} {found[key].shape} instead of {shape}"
            for key, shape in expected.items()
            if key in found and found[key].shape != shape
        ],
    }
    if any(complaints.values()):
        raise MisfitError(
            "; ".join(f"{what}: {', '.join(k)}" for what, k in complaints.items() if k)
        )
