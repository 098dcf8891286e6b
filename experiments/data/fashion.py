"""Fashion-MNIST (MIT), from the four files that its makers publish.

The Debian and Ubuntu package dataset-fashion-mnist installs them; by hand they come
from https://github.com/zalandoresearch/fashion-mnist. TensorFlow Datasets prepares
this set only with TensorFlow.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from experiments.data.dataset import Dataset
from experiments.errors import InputError

FOLDERS = (Path("/usr/share/datasets/fashion-mnist"), Path("runs/data/fashion-mnist"))
NAMES = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt",
         "sneaker", "bag", "ankle boot")  # fmt: skip
_PREFIXES = {"train": "train", "test": "t10k"}


def fashion_mnist(split: str) -> Dataset:
    """60,000 (``"train"``) or 10,000 (``"test"``) articles of clothing, 28x28 pixels.

    Raises:
      InputError: if the files are in none of ``FOLDERS``, or are damaged.
    """
    prefix = _PREFIXES[split]
    images = read_idx(_find(f"{prefix}-images-idx3-ubyte.gz"), dimensions=3)
    labels = read_idx(_find(f"{prefix}-labels-idx1-ubyte.gz"), dimensions=1)
    if len(images) != len(labels):
        raise InputError(
            f"Fashion-MNIST has {len(images)} images and {len(labels)} labels"
        )
    pixels = images[..., None].astype(np.float32) / 255
    name = "Fashion-MNIST" if split == "train" else "Fashion-MNIST test"
    return Dataset(pixels, labels.astype(np.int32), name, 10, NAMES)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """A gzipped IDX file of bytes, as MNIST and its kin are published in.

    Big-endian: two zero bytes, the type (8: unsigned byte), the number of dimensions,
    each length as uint32, then the values.

    Returns:
      uint8, with ``dimensions`` axes.

    Raises:
      InputError: if the file is damaged or of another form.
    """
    try:
        content = gzip.decompress(path.read_bytes())
        magic, *shape = struct.unpack_from(f">{1 + dimensions}I", content)
    except (EOFError, OSError, zlib.error, struct.error) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    header = 4 * (1 + dimensions)
    if magic != 0x0800 + dimensions or len(content) != header + math.prod(shape):
        raise InputError(
            f"{path} is no IDX file of bytes with {dimensions} dimensions: it begins "
            f"with {magic:#010x} {shape} and has {len(content)} bytes"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _find(file: str) -> Path:
    for folder in FOLDERS:
        if (folder / file).is_file():
            return folder / file
    places = " nor ".join(map(str, FOLDERS))
    raise InputError(
        f"{file} was found neither in {places}; install the Debian package "
        "dataset-fashion-mnist, or put there the files from "
        "https://github.com/zalandoresearch/fashion-mnist"
    )
