"""Fashion-MNIST and the animals, from files of the form they come in."""

import gzip
import os
import pickle
import struct

import numpy as np
import pytest

from experiments import data
from experiments.data import installed
from experiments.errors import InputError


def idx(array):
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0)


def pickled(array):
    return gzip.compress(pickle.dumps(array, 4), mtime=0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Both sets in one folder, the animals as pip installs them; two are the same."""
    monkeypatch.setattr(installed, "FASHION", (tmp_path / "none", tmp_path))
    monkeypatch.setattr(installed, "ANIMAL_FILES", "")
    monkeypatch.syspath_prepend(tmp_path)
    for prefix, n in (("train", 20), ("t10k", 10)):
        images = np.arange(n)[:, None, None] * np.ones((1, 28, 28), int)
        images[:, 0, 5] = 255
        arrays = {"images-idx3": images, "labels-idx1": np.arange(n) % 10}
        for kind, array in arrays.items():
            (tmp_path / f"{prefix}-{kind}-ubyte.gz").write_bytes(idx(array))
    about = tmp_path / "animal_mnist-0.4.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: animal_mnist\n")
    images = np.zeros((12, 28, 28), np.uint8)
    images[:, 0, 0] = [200, 7, 200, *range(100, 109)]
    arrays = {"data": images, "label": np.array([0, 1, 0, *range(1, 10)])}
    for name, array in arrays.items():
        (tmp_path / f"animal_{name}_version_3.gz").write_bytes(pickled(array))
    return tmp_path


def test_fashion_mnist_has_both_splits(folder):
    train, test = data.load("fashion-mnist", 28), data.load("fashion-mnist-test", 28)
    assert (train.images.shape, test.images.shape) == ((20, 28, 28, 1), (10, 28, 28, 1))
    assert train.images.dtype == np.float32
    # Row 0, column 5 is bright: neither transposed nor shifted.
    assert np.allclose(train.images[3, 0, 5, 0], 1)
    assert np.allclose(train.images[3, 5, 0, 0], 3 / 255)
    assert train.labels.tolist() == [*range(10), *range(10)]
    assert train.class_names[9] == "ankle boot"


def test_animals_are_distinct(folder):
    found = data.load("animals", 28)
    assert found.images.dtype == np.float32
    assert found.labels.tolist() == [0, 1, *range(1, 10)]
    levels = (found.images[:, 0, 0, 0] * 255).round().astype(int).tolist()
    assert levels == [200, 7, *range(100, 109)]
    assert found.class_names[-1] == "zebra"


IMAGES, LABELS = "train-images-idx3-ubyte.gz", "animal_label_version_3.gz"


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("fashion-mnist", IMAGES, idx(np.zeros((20, 28, 28)))[:-20], "is damaged"),
        ("fashion-mnist", IMAGES, idx(np.zeros((19, 28, 28))), "20 labels"),
        ("fashion-mnist", IMAGES, None, "missing: install the Debian package dataset-"),
        ("animals", LABELS, pickled(np.arange(12)), "not all of 0 to 9"),
        ("animals", LABELS, gzip.compress(b"no pickle", mtime=0), "damaged pickle"),
        ("animals", LABELS, None, "is missing: pip install --no-deps animal-mnist"),
    ],
)
def test_damaged_files_are_refused(folder, name, file, content, message):
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(InputError, match=message):
        data.load(name, 28)


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(InputError, match="animal-mnist is missing: pip install"):
        data.load("animals", 28)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_pickle_is_called(tmp_path):
    content = pickle.dumps([np.arange(3), Hostile(tmp_path / "called")], 4)
    assert installed.payload(content) == np.arange(3).tobytes()
    assert not (tmp_path / "called").exists()
