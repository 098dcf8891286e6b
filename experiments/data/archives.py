"""Caltech-256 and MIT Indoor 67, from the archives published by their authors."""

import functools
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from experiments.data import files
from experiments.data.cache import Contents, Source
from experiments.errors import InputError

# Leaves out strays such as 198.spider/RENAME2 and 056.dog/greg/...
_IMAGE = re.compile(r"(?:.*/)?((?!257)(\d{3})\.[^/]+)/\2_\d{4}\.jpg")


def caltech256(names: set[str], *, per_class: int) -> dict[str, tuple[str, str]]:
    """Split and class of 29,780 photographs in 256 object classes, without clutter.

    There is no official split: ``per_class`` images of each class are for training, the
    others for testing. Each class is shuffled by its own generator, seeded with 0 and
    the rank of the class, so the split does not depend on the machine or the order of
    the files.
    """
    by_class = defaultdict(list)
    for match in filter(None, map(_IMAGE.fullmatch, sorted(names))):
        by_class[match[1]].append(match[0])
    assigned = {}
    for rank, (label, own) in enumerate(sorted(by_class.items())):
        if (n := len(own)) <= per_class:
            raise InputError(f"{label} has {n} images, expected more than {per_class}")
        for place, index in enumerate(np.random.default_rng([0, rank]).permutation(n)):
            assigned[own[index]] = "train" if place < per_class else "test", label
    return assigned


def mit_indoor67(names: set[str], *lists: Path) -> dict[str, tuple[str, str]]:
    """Split and class of 6,700 photographs of rooms, from the official lists."""
    assigned = {}
    for split, listing in zip(("train", "test"), lists, strict=True):
        for line in filter(None, map(str.strip, listing.read_text().splitlines())):
            if f"Images/{line}" not in names:
                raise InputError(f"{listing}: {line} is not in the archive")
            if f"Images/{line}" in assigned:
                raise InputError(f"{line} is listed twice, again in {listing}")
            assigned[f"Images/{line}"] = split, line.split("/")[0]
    return assigned


_CALTECH = [
    "https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar"
]
_INDOOR = [
    "http://groups.csail.mit.edu/vision/LabelMe/NewImages/indoorCVPR_09.tar",
    "http://web.mit.edu/torralba/www/TrainImages.txt",
    "http://web.mit.edu/torralba/www/TestImages.txt",
]
# By name: the number of classes, the function that reads them, and the files.
ARCHIVED = {
    "caltech256": (256, functools.partial(caltech256, per_class=30), _CALTECH),
    "caltech256-60": (256, functools.partial(caltech256, per_class=60), _CALTECH),
    "mit_indoor67": (67, mit_indoor67, _INDOOR),
}


def archived_source(name: str, archives: Path) -> Source:
    """A data set of ``ARCHIVED``. Its files must be in ``archives``, unless cached.

    Raises:
      InputError: from ``open``, if a file is missing (says where to download it), or
        if the files are damaged or have other classes.
    """
    expected, assign, urls = ARCHIVED[name]

    def open_(scratch: Path) -> Contents:
        archive, *lists = (archives / url.rpartition("/")[2] for url in urls)
        for path, url in zip((archive, *lists), urls, strict=True):
            if not path.is_file():
                raise InputError(f"{path} is missing; download it from {url}")
        root = files.unpacked(archive, scratch)
        assigned = assign(set(files.names(root)), *lists)
        classes = sorted({label for _, label in assigned.values()})
        if (found := len(classes)) != expected:
            raise InputError(f"{archive}: expected {expected} classes, found {found}")
        examples = (
            (split, classes.index(label), str(archive / x), root / x)
            for x, (split, label) in assigned.items()
        )
        return classes, Counter(x for x, _ in assigned.values()), examples, []

    return Source(name, name, open_)
