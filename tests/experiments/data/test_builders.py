"""The builders here, on small archives of the form that the makers publish."""

import dataclasses

import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments import digests
from experiments.data import _archive, cache
from experiments.data._from_archive import archive_source
from experiments.data.builders import OWN, own_source
from experiments.errors import InputError

tfds.disable_progress_bar()


@pytest.fixture
def prepared(tmp_path):
    """Prepares a builder with few classes from what lies in ``archives``."""

    def prepare(name, classes, per_class=0):
        kind, config = OWN[name]
        small = dataclasses.replace(
            config, name="small", classes=classes, per_class=per_class
        )
        source = archive_source(
            name, kind, small, tmp_path / "tfds", tmp_path / "archives"
        )
        return cache.prepare(source, 4, tmp_path / "arrays", warn=pytest.fail)

    return prepare


@pytest.fixture
def caltech256(tmp_path, pack, jpeg):
    root = "256_ObjectCategories"
    content = {
        f"{root}/{label}/{label[:3]}_{number:04}.jpg": jpeg(level + 5 * number)
        for label, level in (("001.ak47", 20), ("002.flag", 100), ("257.clutter", 180))
        for number in range(1, 6)
    }
    content[f"{root}/001.ak47/RENAME2"] = b"#!/bin/sh"
    content[f"{root}/002.flag/greg/vision/002_0001.jpg"] = jpeg()
    return pack(tmp_path / "archives" / f"{root}.tar", content)


def test_caltech256_is_split_by_class_and_has_no_clutter(prepared, caltech256, levels):
    entry = prepared("caltech256", 2, per_class=3)
    assert entry.about["classes"] == ["001.ak47", "002.flag"]
    train, test = entry.dataset("train"), entry.dataset("test")
    assert np.bincount(train.labels).tolist() == [3, 3]
    assert np.bincount(test.labels).tolist() == [2, 2]
    both = np.sort(np.concatenate([levels(train), levels(test)]))
    assert np.allclose(both, [25, 30, 35, 40, 45, 105, 110, 115, 120, 125], atol=1.5)
    assert ((levels(train) > 75) == train.labels).all()
    assert entry.about["origin"][
        "sha256 of 256_ObjectCategories.tar"
    ] == digests.of_file(caltech256)


def test_the_split_is_the_same_in_every_order_of_files(
    prepared, caltech256, tmp_path, pack, levels
):
    first = np.sort(levels(prepared("caltech256", 2, per_class=3).dataset("train")))
    content = dict(_archive.contents(caltech256, _archive.names(caltech256)))
    for folder in ("tfds", "arrays"):
        (tmp_path / folder).rename(tmp_path / f"old-{folder}")
    pack(caltech256, dict(reversed(content.items())))
    again = np.sort(levels(prepared("caltech256", 2, per_class=3).dataset("train")))
    assert np.array_equal(first, again)


def test_a_prepared_set_needs_no_archive(prepared, caltech256, tmp_path):
    prepared("caltech256", 2, per_class=3)
    caltech256.unlink()
    (tmp_path / "arrays").rename(tmp_path / "old")
    entry = prepared("caltech256", 2, per_class=3)
    assert entry.about["classes"] == ["001.ak47", "002.flag"]
    assert entry.about["images"] == {"train": 6, "test": 4}


@pytest.mark.parametrize(
    ("classes", "per_class", "message"),
    [(256, 3, "expected 256 classes, found 2"), (2, 5, "001.ak47 has 5 images, needs")],
)
def test_caltech256_of_another_size_is_refused(
    prepared, caltech256, classes, per_class, message
):
    with pytest.raises(InputError, match=message):
        prepared("caltech256", classes, per_class)


def test_an_archive_cut_short_leaves_nothing_prepared(prepared, caltech256, tmp_path):
    whole = caltech256.read_bytes()
    caltech256.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(
        InputError, match=r"256_ObjectCategories.tar (cannot|is damaged)"
    ):
        prepared("caltech256", 2, per_class=1)
    caltech256.write_bytes(whole)
    assert prepared("caltech256", 2, per_class=3).about["images"]["train"] == 6


def test_caltech101_keeps_its_background(prepared, tmp_path, pack, jpeg):
    content = {
        f"101_ObjectCategories/{label}/image_{number:04}.jpg": jpeg()
        for label in ("BACKGROUND_Google", "anchor")
        for number in range(1, 4)
    }
    pack(tmp_path / "archives" / "101_ObjectCategories.tar.gz", content)
    entry = prepared("caltech101-archive", 2, per_class=2)
    assert entry.about["classes"] == ["BACKGROUND_Google", "anchor"]
    assert entry.about["images"] == {"train": 4, "test": 2}


@pytest.fixture
def indoor(tmp_path, pack, jpeg):
    folder = tmp_path / "archives"
    content = {
        f"Images/{room}/{number}.jpg": jpeg(level + 5 * number)
        for room, level in (("airport_inside", 20), ("bakery", 120))
        for number in range(4)
    }
    pack(folder / "indoorCVPR_09.tar", content)
    # The published lists end their lines in various ways.
    (folder / "TrainImages.txt").write_text(
        "airport_inside/0.jpg\nbakery/1.jpg\r\nbakery/3.jpg\n"
    )
    (folder / "TestImages.txt").write_text("bakery/0.jpg\nairport_inside/2.jpg")
    return folder


def test_mit_indoor_follows_the_official_lists(prepared, indoor, levels):
    entry = prepared("mit_indoor67", 2)
    train, test = entry.dataset("train"), entry.dataset("test")
    assert train.class_names == ("airport_inside", "bakery")
    found = sorted(zip(levels(train).round(), train.labels, strict=True))
    assert found == [(20, 0), (125, 1), (135, 1)]
    found = sorted(zip(levels(test).round(), test.labels, strict=True))
    assert found == [(30, 0), (120, 1)]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("TestImages.txt", "bakery/9.jpg", "lists bakery/9.jpg, which .* not hold"),
        ("TestImages.txt", "bakery/1.jpg", "bakery/1.jpg is listed twice"),
        ("TrainImages.txt", "bakery/1.jpg\n", "found"),
    ],
)
def test_lists_that_do_not_fit_are_refused(prepared, indoor, file, text, message):
    (indoor / file).write_text(text)
    if file == "TrainImages.txt":
        (indoor / "TestImages.txt").write_text("bakery/0.jpg")
        message = "expected 2 classes, found 1: bakery"
    with pytest.raises(InputError, match=message):
        prepared("mit_indoor67", 2)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("caltech256", "data.caltech.edu"), ("mit_indoor67", "groups.csail.mit.edu"),
    ],
)  # fmt: skip
def test_offline_says_what_to_put_where(tmp_path, name, missing):
    source = own_source(name, tmp_path / "tfds", tmp_path / "archives")
    with pytest.raises(
        InputError, match=f"cannot download from {missing}.*by hand, as"
    ):
        source.open()


def test_a_missing_list_is_asked_for(prepared, indoor):
    (indoor / "TestImages.txt").unlink()
    with pytest.raises(InputError, match=r"torralba/www/TestImages.txt there by hand"):
        prepared("mit_indoor67", 2)


def test_caltech101_says_where_its_archive_comes_from(tmp_path):
    source = own_source("caltech101-archive", tmp_path / "tfds", tmp_path / "archives")
    with pytest.raises(InputError, match=r"is missing; it comes in https://.*101.zip"):
        source.open()
