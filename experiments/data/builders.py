"""Caltech-256 and MIT Indoor 67, from the archives that their makers publish."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data import files
from experiments.data.cache import Contents, Example, Source
from experiments.data.layout import some
from experiments.errors import InputError

# Split and class of every image that is used, by its name in the archive.
Assigned = dict[str, tuple[str, str]]

# Strays like 198.spider/RENAME2 and 056.dog/greg/... are not part of the set.
_IMAGE = re.compile(r"(?:.*/)?((?!257)(\d{3})\.[^/]+)/\2_\d{4}\.jpg")


def caltech256(names: set[str], *, per_class: int) -> Assigned:
    """29,780 photographs of 256 kinds of objects, without the clutter.

    The makers give no split: ``per_class`` images of each class are for training, the
    others for testing. Each class is shuffled by a generator of its own, seeded with 0
    and the class's rank: the same on every machine, in every order of files.
    """
    by_class: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        if match := _IMAGE.fullmatch(name):
            by_class[match[1]].append(name)
    assigned: Assigned = {}
    for rank, (label, own) in enumerate(sorted(by_class.items())):
        if len(own) <= per_class:
            raise InputError(
                f"class {label} has {len(own)} images, expected more than {per_class}"
            )
        order = np.random.default_rng([0, rank]).permutation(len(own))
        for place, index in enumerate(order):
            assigned[own[index]] = "train" if place < per_class else "test", label
    return assigned


def mit_indoor67(names: set[str], *lists: Path) -> Assigned:
    """67 kinds of rooms: of each 80 images to train and 20 to test, by official lists.

    The lists name 6,700 of the archive's 15,620 images; the others are not used.
    """
    assigned: Assigned = {}
    for split, listing in zip(("train", "test"), lists, strict=True):
        for line in filter(None, map(str.strip, listing.read_text().split("\n"))):
            if f"Images/{line}" not in names:
                raise InputError(f"{listing}: {line} is not in the archive")
            if f"Images/{line}" in assigned:
                raise InputError(f"{line} is listed twice, at last in {listing}")
            assigned[f"Images/{line}"] = split, line.split("/")[0]
    return assigned


class Own(NamedTuple):
    """The files, of which the first is the archive, how they are read, and a number."""

    urls: list[str]
    assign: Callable[..., Assigned]
    classes: int


_CALTECH = [
    "https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar"
]
_INDOOR = [
    "http://groups.csail.mit.edu/vision/LabelMe/NewImages/indoorCVPR_09.tar",
    "http://web.mit.edu/torralba/www/TrainImages.txt",
    "http://web.mit.edu/torralba/www/TestImages.txt",
]
OWN = {
    "caltech256": Own(_CALTECH, partial(caltech256, per_class=30), 256),
    "caltech256-60": Own(_CALTECH, partial(caltech256, per_class=60), 256),
    "mit_indoor67": Own(_INDOOR, mit_indoor67, 67),
}


def own_source(name: str, archives: Path) -> Source:
    """A set of ``OWN``, whose files are in ``archives``, or were decoded already.

    Raises:
      InputError: from ``open``, if one is missing, with where it comes from, or if they
        are damaged or of other classes.
    """
    urls, assign, expected = OWN[name]

    def open_(scratch: Path) -> Contents:
        archive, *lists = (archives / url.rpartition("/")[2] for url in urls)
        for path, url in zip((archive, *lists), urls, strict=True):
            if not path.is_file():
                raise InputError(f"{path} is missing; download it from {url}")
        root = files.unpacked(archive, scratch)
        assigned = assign(set(files.names(root)), *lists)
        classes = sorted({label for _, label in assigned.values()})
        if len(classes) != expected:
            found = f"found {len(classes)}: {some(classes)}"
            raise InputError(f"{archive}: expected {expected} classes, {found}")
        examples = (
            Example(split, classes.index(label), str(archive / x), root / x)
            for x, (split, label) in assigned.items()
        )
        sizes = Counter(split for split, _ in assigned.values())
        return Contents(tuple(classes), sizes, examples, [])

    return Source(name, name, open_)
