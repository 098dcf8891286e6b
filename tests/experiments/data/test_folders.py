"""From names to splits and classes."""

import hypothesis
import pytest
from hypothesis import strategies as st

from experiments.data.folders import splits_and_classes
from experiments.errors import InputError


def read(*names, notes=None):
    """Split and class of each image, and the words."""
    classes, place, words = splits_and_classes("here", names, notes or {})
    assert classes == tuple(sorted(classes))
    return {x: (split, classes[y]) for x, (split, y) in place.items()}, words


SPELLINGS = {
    "train": ["train", "training", "trn", "train_set", "training_set", "trainset"],
    "validation": ["val", "valid", "validation", "dev", "eval", "val_images", "valset"],
    "test": ["test", "testing", "test_set", "test-data", "tst", "testset"],
}


@hypothesis.given(data=st.data())
def test_splits_under_all_their_names(data):
    """In any case, with sizes and names around them, at any depth, beside others."""
    case = data.draw(st.sampled_from([str, str.upper, str.title, str.capitalize]))
    around = data.draw(
        st.sampled_from(["{}", "{}_256", "{}2017", "cars_{}", "{}-v1.1"])
    )
    root = data.draw(st.sampled_from(["", "pets/", "data/pets/"]))
    other = data.draw(st.sampled_from([[], ["unlabeled/x.jpg"], ["docs/fig/logo.png"]]))
    splits = ["train", *data.draw(st.sampled_from([["test"], ["validation"], ["test",
              "validation"]]))]  # fmt: skip
    expected = {}
    for split in splits:
        name = case(data.draw(st.sampled_from(SPELLINGS[split])))
        inner = data.draw(st.sampled_from(["", "images/"]))
        for label in ("cat", "dog"):
            expected[f"{root}{around.format(name)}/{inner}{label}/1.jpg"] = split, label
    strays = [root + name for name in other]
    place, words = read(*strays, *expected)
    assert place == expected
    assert len(words) == len(strays)
    assert all("outside the splits: 1 images" in word for word in words)


@pytest.mark.parametrize("rest", [["bus/1.jpg"], ["bus/a/1.jpg", "train/a/2.jpg"]])
def test_a_class_may_be_called_train(rest):
    place, _ = read("train/a/1.jpg" if len(rest) > 1 else "train/1.jpg", *rest)
    assert {split for split, _ in place.values()} == {"all"}


def test_a_lone_training_split_is_one():
    place, words = read("train/cat/1.jpg", "train/dog/1.jpg", "unlabeled/1.jpg")
    assert set(place.values()) == {("train", "cat"), ("train", "dog")}
    assert words == ["left out, outside the splits: 1 images (unlabeled)"]


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["b/1.jpg", "a/1.jpg", "c/1.jpg"], "a b c"),
        (["pets/cat/1.jpg", "pets/dog/2.jpg"], "cat dog"),
        (["cat/1.jpg", "dog/old/2.jpg", "dog/new/2.jpg"], "cat dog"),
        (["n1/images/1.jpg", "n2/images/1.jpg"], "n1 n2"),
        (["a/abbey/1.jpg", "a/bar/1.jpg", "b/cafe/1.jpg"], "a/abbey a/bar b/cafe"),
        (["a/abbey/1.jpg", "a/flat/in/1.jpg", "a/flat/out/1.jpg", "b/bar/1.jpg"],
         "a/abbey a/flat/in a/flat/out b/bar"),
        (["a/abbey/1.jpg", "a/abbey/old/1.jpg", "b/bar/1.jpg"], "a/abbey b/bar"),
        (["cover.png", "in/cat/1.jpg", "in/dog/1.jpg"], "cat dog"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("split", [False, True])
def test_which_folders_are_classes(names, classes, split):
    """The same in each split; said where there was a choice."""
    roots = ["train/", "test/", "val/"] if split else [""]
    place, words = read(*(root + name for root in roots for name in names))
    found = {label for _, label in place.values()}
    assert found == set(classes.split())
    for root in roots:
        assert {y for x, (_, y) in place.items() if x.startswith(root)} == found
    plain = all(name.count("/") == 1 for name in names) or "images" in names[0]
    assert bool(words) == (not plain and names[0] != "pets/cat/1.jpg")


def test_folders_of_the_system_hold_no_classes():
    junk = [f"{x}/1.jpg" for x in ("@eaDir", "#recycle", "cat/$RECYCLE.BIN")]
    place, words = read("cat/1.jpg", "dog/1.jpg", "@eaDir/", *junk)
    assert set(place) == {"cat/1.jpg", "dog/1.jpg"}
    assert words[0].startswith("left out 3 system files")


def test_suffixes_of_images():
    suffixes = "jpg", "JPEG", "jfif", "JPE", "png", "webp", "TIF", "bmp", "gif"
    images = [f"bird/x.{suffix}" for suffix in suffixes]
    place, words = read(*images, "cat/1.jpg", "cat/1.txt")
    assert {place[name] for name in images} == {("all", "bird")}
    assert words == ["left out files that are not images: .txt (1)"]


TINY = ["t/train/n1/images/a.JPEG", "t/train/n2/images/b.JPEG", "t/train/n1/boxes.txt"]


def test_tiny_imagenet_as_it_is_published():
    notes = {"t/val/val_annotations.txt": "v0.JPEG\tn2\t0\t0\nv1.JPEG\tn1\t0\t0\n"}
    images = ["t/val/images/v0.JPEG", "t/val/images/v1.JPEG"]
    place, words = read(*TINY, *images, *notes, "t/test/images/x.JPEG", notes=notes)
    assert [place[name] for name in images] == [("validation", x) for x in ("n2", "n1")]
    assert place[TINY[0]] == ("train", "n1")
    assert len(place) == 4
    assert words == [
        "left out, of 'test', which have no labels: 1 images (t/test/images)"
    ]
    wrong = {"t/val/val_annotations.txt": "v0.JPEG\tn3"}
    with pytest.raises(InputError, match="names unknown classes: n3"):
        read(*TINY, *images[:1], notes=wrong)
    with pytest.raises(InputError, match="lists all images; expected class folders"):
        read(*images, *notes, notes=notes)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no images .*but nothing"),
        (["a/1.heic", "b/2.HEIC"], r"holds no images .*\.HEIC \(1\), \.heic \(1\)"),
        (["1.jpg"], "not in folders named by class"),
        (["Train/1.jpg", "Test/2.jpg"], "not in folders named by class"),
        (["cars_train/1.jpg", "cars_test/2.jpg"], "not in folders named"),
        (["only/0.png"], "one class, 'only'; expected two or more"),
        (["train/only/0.png", "test/only/0.png"], "one class, 'only'"),
        (["train/a/1.jpg", "train/b/1.jpg", "test/c/1.jpg", "test/a/1.jpg"], "s: c"),
        (["train/a/1.jpg", "train/b/1.jpg", "test/A/1.jpg", "test/B/1.jpg"], "A, B"),
        (["val/a/1.jpg", "val/b/1.jpg", "test/c/1.jpg", "test/a/1.jpg"], "s: c"),
        (["a/train/1.jpg", "a/test/1.jpg", "b/train/1.jpg", "b/test/1.jpg"],
         "splits of several data sets: a/test, a/train"),
        (["x_train/a/1.jpg", "x_test/a/1.jpg", "y_train/a/1.jpg", "y_test/a/1.jpg"],
         "splits of several data sets"),
        (["a/1.jpg", "b/1.jpg", "c/", "c/1.heic"], r"c is next to .*\.heic \(1\)"),
        (["train/a/1.jpg", "train/b/1.jpg", "train/c/", "test/a/1.jpg"], "train/c is"),
        (["x/a/1.jpg", "x/b/1.jpg", "y/c/1.jpg", "y/", "y/d/"], "y/d is next to"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_off_is_an_error(names, message):
    with pytest.raises(InputError, match=message):
        read(*names)


def test_folders_without_images_elsewhere_do_not_matter():
    names = ["train/a/1.jpg", "train/b/1.jpg", "test/a/1.jpg", "test/b/", "labels/a/"]
    place, words = read(*names, "train/a/empty/", "labels/")
    assert len(place) == 3
    assert not words
