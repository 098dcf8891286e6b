"""From names to splits and classes."""

import pytest

from experiments.data._layout import is_image, layout
from experiments.errors import InputError


def places(*names, notes=None):
    found = layout("here", names, notes or {})
    return {
        name: (split, found.classes[label])
        for name, (split, label) in found.place.items()
    }


@pytest.mark.parametrize("root", ["", "pets/", "data/pets/"])
def test_folders_are_classes(root):
    assert places(f"{root}cat/1.jpg", f"{root}dog/old/2.jpg") == {
        f"{root}cat/1.jpg": ("all", "cat"),
        f"{root}dog/old/2.jpg": ("all", "dog"),
    }


def test_train_and_test_are_splits_under_their_various_names():
    names = ["p/training/cat/1.jpg", "p/training/dog/1.jpg", "p/val/dog/images/2.jpg"]
    assert set(places(*names).values()) == {
        ("train", "cat"), ("train", "dog"), ("validation", "dog"),
    }  # fmt: skip


def test_a_class_may_be_called_train():
    assert places("train/1.jpg", "bus/1.jpg")["train/1.jpg"] == ("all", "train")


def test_labels_follow_the_sorted_names():
    found = layout("here", ["b/1.jpg", "a/1.jpg", "c/1.jpg", "b/2.jpg"], {})
    assert found.classes == ("a", "b", "c")
    assert found.place["b/2.jpg"] == ("all", 1)
    assert found.images == {"all": 4}


def test_tiny_imagenet_lists_its_validation_classes():
    notes = {"t/val/val_annotations.txt": "v0.JPEG\tn2\t0\t0\nv1.JPEG\tn1\t0\t0\n"}
    names = ["t/train/n1/images/a.JPEG", "t/train/n2/images/b.JPEG"]
    names += ["t/val/images/v0.JPEG", "t/val/images/v1.JPEG"]
    found = places(*names, notes=notes)
    assert found["t/val/images/v0.JPEG"] == ("validation", "n2")
    assert found["t/val/images/v1.JPEG"] == ("validation", "n1")
    with pytest.raises(InputError, match="classes that 'train' has not: images"):
        places(*names)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no images"),
        (["cat/1.jpg", "2.jpg"], "2.jpg lies in no folder"),
        (["train/1.jpg", "train/2.jpg"], "lies in no folder"),
        (["cat/1.jpg"], "lies in no folder|2 classes or more"),
        (["train/a/1.jpg", "train/b/1.jpg", "test/c/1.jpg"], "has not: c"),
    ],
)
def test_what_cannot_be_read_off_is_an_error(names, message):
    with pytest.raises(InputError, match=message):
        places(*names)


def test_what_is_an_image():
    assert is_image("a/b.JPEG")
    assert is_image("a/b.png")
    for name in ("a/b.txt", "a/.b.jpg", "__MACOSX/a/b.jpg", "a/jpg"):
        assert not is_image(name)
