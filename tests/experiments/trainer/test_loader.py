"""Batches are a pure function of seed and step."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.trainer import layout
from experiments.trainer.loader import Loader
from experiments.trainer.task import task_of


@pytest.fixture(scope="module")
def task(made):
    return task_of(made)


@pytest.fixture
def loader(task):
    return Loader(task, layout.batches(layout.mesh()))


def test_each_epoch_sees_every_image_once_in_a_new_order(loader, task):
    per_epoch = len(task.train) // 8
    first, second = (
        np.concatenate([loader.rows(epoch * per_epoch + i) for i in range(per_epoch)])
        for epoch in range(2)
    )
    for rows in (first, second):
        assert len(rows) == len(set(rows.tolist())) == per_epoch * 8
        assert set(rows.tolist()) <= set(task.train.tolist())
    assert not np.array_equal(first, second)


def test_a_step_has_the_same_images_whatever_was_asked_before(loader, task):
    wanted = {step: loader.rows(step) for step in (0, 5, 30, 11, 29, 0)}
    for step, rows in wanted.items():
        fresh = Loader(task, layout.batches(layout.mesh()))
        np.testing.assert_array_equal(fresh.rows(step), rows)


def test_another_seed_is_another_order(loader, task):
    other = Loader(dataclasses.replace(task, seed=1), layout.batches(layout.mesh()))
    assert not np.array_equal(loader.rows(0), other.rows(0))


def test_a_batch_holds_the_images_and_labels_of_its_rows(loader, task):
    images, labels = jax.device_get(loader.batch(3))
    np.testing.assert_array_equal(images, task.dataset.images[loader.rows(3)])
    np.testing.assert_array_equal(labels, task.dataset.labels[loader.rows(3)])
