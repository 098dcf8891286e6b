"""Photographs are decoded once, and a damaged or unfinished cache is noticed."""

import numpy as np
import pytest

from experiments.data import few_shot, photographs, read_folder
from experiments.errors import InputError


@pytest.fixture
def pets(jpeg):
    """Four training and two test images; the gray level tells class and image."""
    return {
        f"pets/{split}/{label}/{number}.jpg": jpeg(level + number)
        for split, numbers in (("train", (0, 1)), ("test", (2,)))
        for label, level in (("cat", 50), ("dog", 150))
        for number in numbers
    }


@pytest.fixture
def archive(tmp_path, pack, pets):
    return pack(tmp_path / "pets.tar.gz", pets)


@pytest.fixture
def read(tmp_path):
    def read(path, side=4, **options):
        return read_folder(path, side, cache=tmp_path / "c", **options)

    return read


def entries(folder):
    return [path for path in folder.iterdir() if path.is_dir()]


@pytest.mark.parametrize("kind", ["pets", "pets.tar.xz"])
def test_photographs_of_ones_own(tmp_path, pack, pets, levels, kind):
    path = pack(tmp_path / kind, pets)
    splits = read_folder(path, 4, cache=tmp_path / "arrays", warn=pytest.fail)
    for split, expected in (("train", [50, 51, 150, 151]), ("test", [52, 152])):
        dataset = photographs(f"folder:{path}", split, 4, tmp_path)
        assert np.array_equal(dataset.images, splits[split].images)
        assert isinstance(dataset.images, np.memmap)
        assert dataset.images.dtype == np.uint8
        assert dataset.images.shape == (len(expected), 4, 4, 3)
        assert dataset.labels.dtype == np.int32
        assert (dataset.name, dataset.class_names) == ("pets", ("cat", "dog"))
        # The gray level tells which image it is: labels and splits are the right ones.
        assert np.abs(np.sort(levels(dataset)) - expected).max() < 3
        assert np.abs(levels(dataset) - (51 + 100 * dataset.labels)).max() < 5
    assert len(entries(tmp_path / "arrays")) == 1
    assert not list((tmp_path / "arrays").rglob("*.jpg"))


def test_a_set_without_splits(tmp_path, pack, jpeg, read):
    content = {f"{c}/{i}.jpg": jpeg() for c in ("cat", "dog") for i in range(3)}
    path = pack(tmp_path / "pets.zip", content)
    assert list(read(path)) == ["all"]
    dataset = photographs(f"folder:{path}", "all", 4, tmp_path)
    train, test = few_shot(dataset, 1, seed=0)
    assert np.bincount(dataset.labels[train]).tolist() == [1, 1]
    assert np.bincount(dataset.labels[test]).tolist() == [2, 2]
    with pytest.raises(InputError, match=r"unknown split of .* 'train'; known: all"):
        photographs(f"folder:{path}", "train", 4, tmp_path)


def test_the_second_time_it_is_found(tmp_path, pack, pets, jpeg, read):
    folder = pack(tmp_path / "pets", pets | {"pets/docs/1.jpg": jpeg()})
    shares, words = [], []
    read(folder, warn=words.append, advanced=shares.append)
    assert sum(shares) == pytest.approx(1)
    images = {p: p.stat().st_mtime_ns for p in (tmp_path / "c").rglob("*.npy")}
    read(folder, warn=words.append)
    assert images == {p: p.stat().st_mtime_ns for p in (tmp_path / "c").rglob("*.npy")}
    # What was left out is said each time.
    assert words == 2 * ["left out, outside the splits: 1 images (pets/docs)"]


def test_what_changed_is_read_again(archive, pack, pets, jpeg, read, levels):
    before = read(archive)["train"]
    assert read(archive, 5)["train"].images.shape[1] == 5
    pack(archive, {name: jpeg(9) for name in pets} | {"pets/train/cat/7.jpg": jpeg(9)})
    after = read(archive)["train"]
    assert (len(before.labels), len(after.labels)) == (4, 5)
    assert levels(after).max() < 20 < levels(before).min()


def test_a_damaged_entry_is_made_again(tmp_path, archive, read):
    expected = np.array(read(archive)["train"].images)
    for file in ("train-images.npy", "test-labels.npy", "entry.json"):
        for length in (None, -3):  # removed, and cut
            (entry,) = entries(tmp_path / "c")
            content = (entry / file).read_bytes()
            (entry / file).unlink()
            if length:
                (entry / file).write_bytes(content[:length])
            words = []
            found = read(archive, warn=words.append)["train"].images
            assert np.array_equal(found, expected)
            (word,) = words
            assert "remaking damaged cache entry pets-4px" in word


def test_what_a_killed_run_left_is_not_taken_for_an_entry(tmp_path, archive, read):
    read(archive)
    (entry,) = entries(tmp_path / "c")
    left = entry.rename(entry.with_name(f".{entry.name}.partial"))
    (left / "unpacked").mkdir()
    (left / "train-images.npy").write_bytes(b"half")
    assert len(read(archive, warn=pytest.fail)["train"].labels) == 4
    assert not left.exists()


@pytest.mark.parametrize("kind", ["x", "x.tar"])
def test_damaged_images_are_named_and_counted(tmp_path, pack, pets, read, levels, kind):
    pets["pets/train/cat/1.jpg"] = b"<html>404</html>"
    pets["pets/test/dog/2.jpg"] = pets["pets/test/dog/2.jpg"][:-90]
    pets["pets/test/dog/3.jpg"] = pets["pets/train/dog/0.jpg"]
    path = pack(tmp_path / kind, pets)
    with pytest.raises(InputError, match="2 of 7 images of x are damaged: ") as caught:
        read(path)
    for text in ("test/dog/2.jpg (", "train/cat/1.jpg (not an image in"):
        assert f"{path}/pets/{text}" in str(caught.value)
    assert "--skip-damaged" in str(caught.value)
    assert not entries(tmp_path / "c")
    for _ in range(2):
        words = []
        splits = read(path, skip_damaged=True, warn=words.append)
        assert words[0].startswith("left out: 2 of 7 images of x are damaged")
        assert np.abs(levels(splits["train"]) - [50, 150, 151]).max() < 3
        assert splits["train"].labels.tolist() == [0, 1, 1]
        assert splits["test"].labels.tolist() == [0, 1]
    pack(path, pets | {"pets/test/dog/3.jpg": b""})
    with pytest.raises(InputError, match="none is left of 'dog' in 'test'"):
        read(path, skip_damaged=True)


def test_what_is_not_there_is_named(tmp_path, archive, read):
    with pytest.raises(InputError, match="at least 1 pixel, got 0"):
        read(archive, 0)
    with pytest.raises(InputError, match="no such file or folder"):
        read(tmp_path / "none")
    with pytest.raises(InputError, match=r"'sun397'; known: caltech101, .*folder:PATH"):
        photographs("sun397", "train", 8, tmp_path)
