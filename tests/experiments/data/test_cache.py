"""Photographs are decoded once, and a damaged or unfinished cache is noticed."""

import json

import numpy as np
import pytest

from experiments import digests
from experiments.data import Dataset, cache, few_shot, photographs
from experiments.data.files import files_source
from experiments.errors import InputError


@pytest.fixture
def archive(tmp_path, pack, pets):
    return pack(tmp_path / "pets.tar.gz", pets)


def entry_of(folder):
    (entry,) = (path for path in folder.iterdir() if path.is_dir())
    return entry


def prepared(archive, folder, **options):
    return cache.prepare(files_source(archive), 4, folder, **options)


@pytest.mark.parametrize("kind", ["pets", "pets.tar", "pets.tar.xz", "pets.zip"])
def test_photographs_of_ones_own(tmp_path, pack, pets, levels, kind):
    path = pack(tmp_path / kind, pets)
    train = photographs(f"folder:{path}", "train", 4, tmp_path / "data")
    test = photographs(f"folder:{path}", "test", 4, tmp_path / "data")
    assert isinstance(train.images, np.memmap)
    assert not train.images.flags.writeable
    assert (train.images.shape, train.images.dtype) == ((4, 4, 4, 3), np.uint8)
    assert (train.name, train.classes, train.class_names) == ("pets", 2, ("cat", "dog"))
    assert train.labels.dtype == np.int32
    # The grey level tells which image it is, so labels and splits are the right ones.
    assert np.abs(levels(train) - (50 + 100 * train.labels)).max() < 5
    assert np.abs(levels(test) - (52 + 100 * np.array([0, 1]))).max() < 3
    assert test.labels.tolist() == [0, 1]


def test_a_set_without_splits_is_split_by_few_shot(tmp_path, pack, jpeg):
    content = {f"{c}/{i}.jpg": jpeg() for c in ("cat", "dog") for i in range(5)}
    path = pack(tmp_path / "pets.zip", content)
    dataset = photographs(f"folder:{path}", "all", 4, tmp_path / "data")
    train, test = few_shot(dataset, 2, seed=0)
    assert np.bincount(dataset.labels[train]).tolist() == [2, 2]
    assert np.bincount(dataset.labels[test]).tolist() == [3, 3]
    with pytest.raises(InputError, match="unknown split of pets 'train'; known: all"):
        photographs(f"folder:{path}", "train", 4, tmp_path / "data")


def test_the_second_time_it_is_found(tmp_path, archive):
    shares = []
    prepared(archive, tmp_path / "c", advanced=shares.append)
    assert len(shares) == 6
    assert sum(shares) == pytest.approx(1)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "c").rglob("*.npy")}
    prepared(archive, tmp_path / "c", warn=pytest.fail)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "c").rglob("*.npy")}


def test_another_size_or_a_changed_archive_is_another_entry(
    tmp_path, archive, pack, pets, jpeg
):
    first = prepared(archive, tmp_path / "c")
    assert (
        cache.prepare(files_source(archive), 5, tmp_path / "c").folder != first.folder
    )
    changed = {name: jpeg(9) for name in pets} | {"pets/train/cat/7.jpg": jpeg()}
    pack(archive, changed)
    second = prepared(archive, tmp_path / "c")
    assert second.folder != first.folder
    assert second.about["images"]["train"] == 5


@pytest.mark.parametrize("file", ["train-images.npy", "test-labels.npy", "entry.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_damaged_entry_is_made_again(tmp_path, archive, file, harm):
    whole = prepared(archive, tmp_path / "c").dataset("train")
    expected = np.array(whole.images), whole.labels
    victim = entry_of(tmp_path / "c") / file
    content = bytearray(victim.read_bytes())
    victim.unlink()
    if harm == "flip":
        content[len(content) // 2] ^= 0xFF
        victim.write_bytes(content)
    elif harm == "cut":
        victim.write_bytes(content[:-3])
    warnings = []
    made = prepared(archive, tmp_path / "c", warn=warnings.append)
    assert len(warnings) == 1
    assert "remaking damaged cache entry pets-4px" in warnings[0]
    again: Dataset = made.dataset("train")
    assert np.array_equal(again.images, expected[0])
    assert np.array_equal(again.labels, expected[1])


def test_what_a_killed_run_left_is_not_taken_for_an_entry(tmp_path, archive):
    entry = prepared(archive, tmp_path / "c").folder
    left = entry.with_name(f".{entry.name}.partial")
    entry.rename(left)
    (left / "train-images.npy").write_bytes(b"half")
    (left / "more-images.npy").write_bytes(b"half")
    again = prepared(archive, tmp_path / "c", warn=pytest.fail)
    assert len(again.dataset("train").labels) == 4
    assert not left.exists()
    assert not (again.folder / "more-images.npy").exists()


def test_damaged_images_are_named_and_counted(tmp_path, pack, pets):
    pets["pets/train/cat/1.jpg"] = b"<html>404</html>"
    pets["pets/test/dog/2.jpg"] = pets["pets/test/dog/2.jpg"][:-90]
    archive = pack(tmp_path / "pets.tar", pets)
    with pytest.raises(InputError, match=r"2 of 6 images .*cat/1.jpg .*dog/2.jpg .*"):
        prepared(archive, tmp_path / "c")
    assert not [path for path in (tmp_path / "c").iterdir() if path.is_dir()]
    warnings = []
    made = prepared(archive, tmp_path / "c", skip_damaged=True, warn=warnings.append)
    assert warnings[0].startswith("left out: 2 of 6 images of pets are damaged")
    assert made.about["images"] == {"train": 3, "test": 1}
    train = made.dataset("train")
    assert len(train.images) == len(train.labels) == 3
    assert np.bincount(train.labels).tolist() == [1, 2]


def test_the_entry_says_what_was_read(tmp_path, archive):
    made = prepared(archive, tmp_path / "c")
    about = json.loads((made.folder / "entry.json").read_text())
    assert about["origin"]["sha256"] == digests.of_file(archive)
    assert about["classes"] == ["cat", "dog"]


def test_a_side_of_no_pixels_is_refused(tmp_path, archive):
    with pytest.raises(InputError, match="at least 1 pixel, got 0"):
        cache.prepare(files_source(archive), 0, tmp_path / "c")
