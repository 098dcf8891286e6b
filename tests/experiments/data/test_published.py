"""Published sets, on small files of the form that their makers publish."""

from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments.data import photographs
from experiments.data.archives import ARCHIVED, caltech256
from experiments.data.official import OFFICIAL
from experiments.errors import InputError

tfds.disable_progress_bar()


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_sets_are_known_and_say_how_to_prepare_them(tmp_path, name):
    builder = tfds.builder(name, data_dir=str(tmp_path))
    assert isinstance(builder.info.features["image"], tfds.features.Image)
    assert len(builder.info.features["label"].names) >= 10
    says = f"tfds build {name} .*array_record.*{tmp_path}"
    with pytest.raises(InputError, match=says):
        photographs(name, "train", 8, tmp_path)


def test_what_was_prepared_elsewhere_becomes_photographs(tmp_path, jpeg, levels):
    """As a ``data_dir`` that somebody with TensorFlow prepared and handed on."""
    official = tfds.builder("imagenette", data_dir=str(tmp_path / "none"))

    class Elsewhere(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "imagenette"
        VERSION = official.version
        BUILDER_CONFIGS: ClassVar = [tfds.core.BuilderConfig(name="full-size-v2")]

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=official.info.features)

        def _split_generators(self, dl_manager):
            levels = {"train": 100, "validation": 200}
            return {x: self._generate_examples(level) for x, level in levels.items()}

        def _generate_examples(self, level):
            for label in range(3):
                yield label, {"image": jpeg(level + 10 * label), "label": label}

    data_dir = str(tmp_path / "tfds")
    Elsewhere(data_dir=data_dir, file_format="array_record").download_and_prepare()
    for split, level in (("train", 100), ("test", 200)):
        dataset = photographs("imagenette", split, 4, tmp_path)
        assert dataset.images.shape == (3, 4, 4, 3)
        assert dataset.class_names[0] == "n01440764"
        assert np.abs(levels(dataset) - (level + 10 * dataset.labels)).max() < 3


@pytest.mark.parametrize(("name", "n"), [("caltech256", 30), ("caltech256-60", 60)])
def test_caltech256_is_split_by_class_and_has_no_clutter(
    tmp_path, pack, jpeg, levels, monkeypatch, name, n
):
    monkeypatch.setitem(ARCHIVED, name, (2, *ARCHIVED[name][1:]))
    content = {"001.ak47/RENAME2": b"#!", "002.flag/greg/vision/002_0001.jpg": jpeg()}
    for label, level in (("001.ak47", 20), ("002.flag", 150), ("257.clutter", 180)):
        for i in range(1, 62):
            content[f"{label}/{label[:3]}_{i:04}.jpg"] = jpeg(level + i)
    root = "256_ObjectCategories"
    content = {f"{root}/{x}": image for x, image in content.items()}
    archive = pack(tmp_path / "archives" / f"{root}.tar", content)
    train = photographs(name, "train", 4, tmp_path)
    archive.unlink()  # what was decoded needs no archive
    test = photographs(name, "test", 4, tmp_path)
    assert train.class_names == ("001.ak47", "002.flag")
    assert np.bincount(train.labels).tolist() == [n, n]
    assert np.bincount(test.labels).tolist() == [61 - n, 61 - n]
    assert ((levels(train) > 115) == train.labels).all()
    both = np.sort(np.concatenate([levels(train), levels(test)]))
    assert np.allclose(both, [*range(21, 82), *range(151, 212)], atol=1.5)


def test_caltech256_draws_its_split_the_same_everywhere():
    names = {f"x/{c:03}.a/{c:03}_{i:04}.jpg" for c in (1, 2) for i in range(5)}
    drawn = caltech256(names, per_class=2)
    train = sorted(x[-12:-4] for x, (split, _) in drawn.items() if split == "train")
    assert train == ["001_0002", "001_0004", "002_0001", "002_0004"]
    with pytest.raises(InputError, match=r"001.a has 5 images, expected more than 5"):
        caltech256(names, per_class=5)


@pytest.fixture
def indoor(tmp_path, pack, jpeg, monkeypatch):
    monkeypatch.setitem(ARCHIVED, "mit_indoor67", (2, *ARCHIVED["mit_indoor67"][1:]))
    content = {
        f"Images/{room}/{number}.jpg": jpeg(level + 5 * number)
        for room, level in (("airport_inside", 20), ("bakery", 120))
        for number in range(4)
    }
    folder = pack(tmp_path / "archives" / "indoorCVPR_09.tar", content).parent
    # The published lists end their lines in various ways.
    train = "airport_inside/0.jpg\nbakery/1.jpg\r\nbakery/3.jpg\n"
    (folder / "TrainImages.txt").write_text(train)
    (folder / "TestImages.txt").write_text("bakery/0.jpg\nairport_inside/2.jpg")
    return folder


def test_mit_indoor_follows_the_official_lists(tmp_path, indoor, levels):
    splits = {"train": [(20, 0), (125, 1), (135, 1)], "test": [(30, 0), (120, 1)]}
    for split, expected in splits.items():
        found = photographs("mit_indoor67", split, 4, tmp_path)
        assert found.class_names == ("airport_inside", "bakery")
        assert sorted(zip(levels(found).round(), found.labels, strict=True)) == expected


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("TestImages.txt", "bakery/9.jpg", "TestImages.txt: bakery/9.jpg is not in"),
        ("TestImages.txt", "bakery/1.jpg", "bakery/1.jpg is listed twice"),
        ("TestImages.txt", None, "TestImages.txt is missing; download it from http"),
        ("TrainImages.txt", "", "expected 67 classes, found 2"),
        ("indoorCVPR_09.tar", None, "tar is missing; download it from http://groups"),
        ("indoorCVPR_09.tar", "cut", "indoorCVPR_09.tar cannot be read"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path, indoor, monkeypatch, file, text, message
):
    monkeypatch.setitem(ARCHIVED, "mit_indoor67", (67, *ARCHIVED["mit_indoor67"][1:]))
    (indoor / file).unlink()
    if text is not None:
        (indoor / file).write_text(text)
    with pytest.raises(InputError, match=message):
        photographs("mit_indoor67", "train", 4, tmp_path)
