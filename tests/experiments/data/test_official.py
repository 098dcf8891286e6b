"""TensorFlow Datasets' own builders: read without TensorFlow, refused offline."""

import sys
import time
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments.data import photographs
from experiments.data.official import OFFICIAL, check_connection, official_source
from experiments.errors import InputError


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_entry_is_known_to_tensorflow_datasets(tmp_path, name):
    builder = tfds.builder(OFFICIAL[name].builder, data_dir=str(tmp_path))
    assert isinstance(builder.info.features["image"], tfds.features.Image)
    assert len(builder.info.features["label"].names) >= 10
    assert {"train", "test"} <= set(OFFICIAL[name].splits)


def test_what_was_prepared_elsewhere_becomes_photographs(tmp_path, jpeg, levels):
    """As a ``data_dir`` that somebody with TensorFlow prepared and handed on."""
    names = OFFICIAL["imagenette"].splits
    official = tfds.builder("imagenette", data_dir=str(tmp_path / "none"))

    class Elsewhere(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "imagenette"
        VERSION = official.version
        BUILDER_CONFIGS: ClassVar = [tfds.core.BuilderConfig(name="full-size-v2")]

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=official.info.features)

        def _split_generators(self, dl_manager):
            return {
                theirs: self._generate_examples(level)
                for theirs, level in zip(names.values(), (100, 200), strict=True)
            }

        def _generate_examples(self, level):
            for label in range(3):
                yield label, {"image": jpeg(level + 10 * label), "label": label}

    tfds.disable_progress_bar()
    data_dir = tmp_path / "tfds_data"
    Elsewhere(data_dir=str(data_dir), file_format="array_record").download_and_prepare()
    train, test = (
        photographs("imagenette", split, 4, tmp_path, tfds_dir=data_dir)
        for split in ("train", "test")
    )
    assert train.images.shape == (3, 4, 4, 3)
    assert train.classes == 10
    assert train.class_names[0] == "n01440764"
    for dataset, level in ((train, 100), (test, 200)):
        expected = level + 10 * dataset.labels
        assert np.abs(levels(dataset) - expected).max() < 3


@pytest.mark.parametrize("name", OFFICIAL)
def test_what_is_not_prepared_is_refused_at_once(tmp_path, name, monkeypatch):
    begun = time.perf_counter()
    source = official_source(name, tmp_path / "tfds", tmp_path / "archives")
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # as if not installed
    with pytest.raises(InputError) as caught:
        source.open()
    assert time.perf_counter() - begun < 5
    asked_for = "pip install tensorflow" in str(caught.value)
    assert asked_for == OFFICIAL[name].tensorflow
    assert "folder:PATH" in str(caught.value)
    assert str(tmp_path / "tfds") in str(caught.value)


def test_a_host_that_never_answers_is_given_up(monkeypatch):
    def slow(*_, **__):
        time.sleep(1)
        raise OSError("too late")

    monkeypatch.setattr("socket.getaddrinfo", slow)
    begun = time.perf_counter()
    with pytest.raises(InputError, match=r"example.org: no answer in 0.1 s. Do x"):
        check_connection("example.org", "Do x", seconds=0.1)
    assert time.perf_counter() - begun < 0.8


def test_unknown_names_list_the_known(tmp_path):
    with pytest.raises(InputError, match=r"'sun397'; known: caltech101, .*folder:PATH"):
        photographs("sun397", "train", 8, tmp_path)
