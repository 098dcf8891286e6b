"""Fashion-MNIST and the animal silhouettes, from files of the form they come in."""

import gzip
import pickle
import struct

import numpy as np
import pytest

from experiments import data
from experiments.data import fashion
from experiments.errors import InputError


def idx(array):
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def fashion_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion, "FOLDERS", (tmp_path / "none", tmp_path))
    for prefix, n in (("train", 20), ("t10k", 10)):
        images = np.arange(n)[:, None, None] * np.ones((1, 28, 28), int)
        images[:, 0, 5] = 255
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(
            idx(np.arange(n) % 10)
        )
    return tmp_path


@pytest.fixture
def animal_files(tmp_path, monkeypatch):
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


def test_fashion_mnist_has_both_splits(fashion_folder):
    train, test = data.load("fashion-mnist", 28), data.load("fashion-mnist-test", 28)
    assert (train.images.shape, test.images.shape) == ((20, 28, 28, 1), (10, 28, 28, 1))
    assert train.images.dtype == np.float32
    # Row 0, column 5 is bright: neither transposed nor shifted.
    assert np.allclose(train.images[3, 0, 5, 0], 1)
    assert np.allclose(train.images[3, 5, 0, 0], 3 / 255)
    assert train.labels.tolist() == [*range(10), *range(10)]
    assert train.class_names[9] == "ankle boot"


def test_variants_of_the_new_sets(fashion_folder):
    assert data.load("fashion-mnist:rotations", 14).classes == 4
    plain = data.load("fashion-mnist", 14)
    permuted = data.load("fashion-mnist:permuted-pixels", 14)
    assert not np.array_equal(plain.images, permuted.images)
    assert np.allclose(np.sort(plain.images.ravel()), np.sort(permuted.images.ravel()))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(np.zeros((20, 28, 28)))[:-20], "is damaged"),
        (b"", "is damaged|is no IDX"),
        (b"<html>", "is damaged"),
        (gzip.compress(b"\0\0\x08\x03" + bytes(30)), "is no IDX file"),
        (idx(np.zeros(20)), "is no IDX file"),
        (idx(np.zeros((19, 28, 28))), "19 images and 20 labels"),
    ],
    ids=["cut off", "empty", "HTML", "too short", "labels", "one missing"],
)
def test_damaged_idx_files_are_named(fashion_folder, content, message):
    (fashion_folder / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(InputError, match=message):
        data.load("fashion-mnist", 28)


def test_missing_fashion_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion, "FOLDERS", (tmp_path / "a", tmp_path / "b"))
    with pytest.raises(InputError, match=r"a nor .*b; install .*dataset-fashion-mnist"):
        data.load("fashion-mnist", 28)


def test_animals_are_distinct(animal_files):
    animals = data.load("animals", 28)
    assert animals.images.shape == (11, 28, 28, 1)
    assert animals.images.dtype == np.float32
    assert animals.labels.tolist() == [0, 1, *range(1, 10)]
    levels = (animals.images[:, 0, 0, 0] * 255).round().astype(int).tolist()
    assert levels == [200, 7, *range(100, 109)]
    assert animals.class_names[-1] == "zebra"


def test_damaged_animals_are_named(animal_files):
    path = animal_files / "animal_label_version_3.gz"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"animal_label_version_3.gz of .* is damaged"):
        data.load("animals", 28)
    path.write_bytes(gzip.compress(pickle.dumps(np.arange(3), 4)))
    with pytest.raises(InputError, match=r"12 labels, found .* and 3"):
        data.load("animals", 28)


def test_missing_animals_say_how_to_get_them(monkeypatch):
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(InputError, match="pip install --no-deps animal-mnist"):
        data.load("animals", 28)
