"""Data sets that packages ship, variants of them, and few-shot splits."""

import dataclasses

import numpy as np
import pytest

from experiments import data
from experiments.errors import InputError


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", 8)


@pytest.mark.parametrize(("name", "count"), [("mnist", 5000), ("digits", 1797)])
def test_load_gives_grey_images_in_unit_range(name, count):
    dataset = data.load(name, 12)
    assert dataset.images.shape == (count, 12, 12, 1)
    assert dataset.images.dtype == np.float32
    assert dataset.labels.dtype == np.int32
    assert dataset.images.min() >= 0
    assert 0.9 < dataset.images.max() <= 1
    assert set(dataset.labels) == set(range(dataset.classes))


def test_halves_of_mnist_are_apart():
    whole, low, high = (data.load(f"mnist{x}", 20) for x in ("", "-low", "-high"))
    assert np.array_equal(whole.images[whole.labels < 5], low.images)
    assert np.array_equal(whole.images[whole.labels > 4], high.images)
    assert set(high.labels) == set(low.labels) == set(range(5))


def test_rotations_are_told_by_their_label(stripes):
    turned = data.rotations(stripes)
    back = [np.rot90(x, -k) for x, k in zip(turned.images, turned.labels, strict=True)]
    assert np.array_equal(back, stripes.images)
    assert set(turned.labels) == set(range(4))


def test_few_shot_is_a_stratified_partition(digits):
    train, test = data.few_shot(digits, 10, seed=0)
    assert digits.labels[train].tolist() == np.repeat(np.arange(10), 10).tolist()
    assert sorted([*train, *test]) == list(range(1797))
    assert np.array_equal(train, data.few_shot(digits, 10, seed=0)[0])
    assert len(set(train) & set(data.few_shot(digits, 10, seed=1)[0])) < 50


def test_few_shot_keeps_to_a_split_that_the_set_has(digits):
    first, second = (
        dataclasses.replace(digits, images=digits.images[x], labels=digits.labels[x])
        for x in (slice(1000), slice(1000, None))
    )
    whole = data.with_test_split(first, second)
    assert np.array_equal(whole.images, digits.images)
    train, test = data.few_shot(whole, 10, 0)
    assert np.bincount(whole.labels[train]).tolist() == [10] * 10
    assert train.max() < 1000
    assert test.tolist() == list(range(1000, 1797))
    smallest = np.bincount(first.labels).min()
    assert len(data.few_shot(whole, smallest, 0)[0]) == 10 * smallest
    with pytest.raises(InputError, match=f"at most {smallest}, the size of the"):
        data.few_shot(whole, smallest + 1, 0)


def test_few_shot_refuses_what_the_data_cannot_give(digits):
    for per_class in (0, 174):
        with pytest.raises(InputError, match="at most 173"):
            data.few_shot(digits, per_class, 0)


def test_permuted_pixels_are_one_reordering_of_all_images(stripes):
    permuted = data.permute_pixels(stripes)
    before, after = (d.images.reshape(60, 16) for d in (stripes, permuted))
    order = [
        int(np.flatnonzero((before == column[:, None]).all(0))[0]) for column in after.T
    ]
    assert sorted(order) == list(range(16))
    assert order != list(range(16))
    assert np.array_equal(permuted.labels, stripes.labels)


def test_random_labels_keep_the_counts_and_lose_the_meaning(stripes):
    shuffled = data.random_labels(stripes)
    assert np.array_equal(np.bincount(shuffled.labels), np.bincount(stripes.labels))
    assert (shuffled.labels == stripes.labels).mean() < 0.6
    assert np.array_equal(shuffled.images, stripes.images)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("svhn", "unknown data set 'svhn'; known: mnist, mnist-low"),
        ("mnist:upside-down", "known: rotations, permuted-pixels, random-labels"),
    ],
)
def test_unknown_names_list_the_known(name, message):
    with pytest.raises(InputError, match=message):
        data.load(name, 8)
