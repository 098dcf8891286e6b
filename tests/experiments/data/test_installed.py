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
    return gzip.compress(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    monkeypatch.setattr(installed, "FASHION", (tmp_path / "none", tmp_path))
    for prefix, n in (("train", 20), ("t10k", 10)):
        images = np.arange(n)[:, None, None] * np.ones((1, 28, 28), int)
        images[:, 0, 5] = 255
        labels = idx(np.arange(n) % 10)
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(labels)
    return tmp_path


@pytest.fixture
def animals(tmp_path, monkeypatch):
    """The package as pip installs it; image 2 is a copy of image 0."""
    files = tmp_path / "animal_mnist" / "data" / "Animal_MNIST"
    info = tmp_path / "animal_mnist-0.4.dist-info"
    files.mkdir(parents=True)
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: animal_mnist\n")
    images = np.zeros((12, 28, 28), np.uint8)
    images[:, 0, 0] = [200, 7, 200, *range(100, 109)]
    labels = np.array([0, 1, 0, *range(1, 10)])
    for name, array in (("data", images), ("label", labels)):
        content = gzip.compress(pickle.dumps(array, 4))
        (files / f"animal_{name}_version_3.gz").write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    return files


def test_fashion_mnist_has_both_splits(fashion):
    train, test = data.load("fashion-mnist", 28), data.load("fashion-mnist-test", 28)
    assert (train.images.shape, test.images.shape) == ((20, 28, 28, 1), (10, 28, 28, 1))
    assert train.images.dtype == np.float32
    # Row 0, column 5 is bright: neither transposed nor shifted.
    assert np.allclose(train.images[3, 0, 5, 0], 1)
    assert np.allclose(train.images[3, 5, 0, 0], 3 / 255)
    assert train.labels.tolist() == [*range(10), *range(10)]
    assert train.class_names[9] == "ankle boot"


def test_animals_are_distinct(animals):
    found = data.load("animals", 28)
    assert found.images.dtype == np.float32
    assert found.labels.tolist() == [0, 1, *range(1, 10)]
    levels = (found.images[:, 0, 0, 0] * 255).round().astype(int).tolist()
    assert levels == [200, 7, *range(100, 109)]
    assert found.class_names[-1] == "zebra"


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("fashion-mnist", "train-images-idx3-ubyte.gz", content, message)
        for content, message in (
            (idx(np.zeros((20, 28, 28)))[:-20], "is damaged"),
            (b"<html>", "is damaged"),
            (b"", "damaged"),
            (gzip.compress(b""), "damaged: 0 pixels, 20 labels"),
            (idx(np.zeros((19, 28, 28))), "20 labels"),
            (None, "is missing: install the Debian package dataset-fashion-mnist"),
        )
    ]
    + [
        ("animals", "animal_label_version_3.gz", content, message)
        for content, message in (
            (gzip.compress(pickle.dumps(np.arange(3), 4)), "9408 pixels, 3 labels"),
            (gzip.compress(pickle.dumps(np.arange(12), 4)), "not all of 0 to 9"),
            (gzip.compress(b"no pickle"), "damaged pickle"),
            (gzip.compress(pickle.dumps(np.arange(12), 4))[:-9], "is damaged"),
            (None, "is missing: pip install --no-deps animal-mnist"),
        )
    ],
)
def test_damaged_files_are_refused(fashion, animals, name, file, content, message):
    path = next(
        folder / file for folder in (fashion, animals) if (folder / file).exists()
    )
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        data.load(name, 28)


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(InputError, match="pip install --no-deps animal-mnist"):
        data.load("animals", 28)


class Hostile:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def test_nothing_in_a_pickle_is_called(tmp_path):
    victim = tmp_path / "called"
    for call in ((os.system, f"touch {victim}"), (os.mkdir, str(victim))):
        content = pickle.dumps([np.arange(3), Hostile(*call)], 4)
        assert installed.payload(content) == np.arange(3).tobytes()
    assert not victim.exists()
