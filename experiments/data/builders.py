"""Caltech-256 and MIT Indoor 67, from the archives that their makers publish."""

import functools
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from experiments.data import files
from experiments.data.cache import Contents, Source
from experiments.errors import InputError

# Strays like 198.spider/RENAME2 and 056.dog/greg/... are not part of the set.
_IMAGE = re.compile(r"(?:.*/)?((?!257)(\d{3})\.[^/]+)/\2_\d{4}\.jpg")


def caltech256(names: set[str], *, per_class: int) -> dict[str, tuple[str, str]]:
    """Split and class of 29,780 photographs of 256 kinds of objects; no clutter.

    The makers give no split: ``per_class`` images of each class are for training, the
    others for testing. Each class is shuffled by a generator of its own, seeded with 0
    and the class's rank: the same on every machine, in every order of files.
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
    """Split and class of 6,700 photographs of rooms, by the official lists."""
    assigned = {}
    for split, listing in zip(("train", "test"), lists, strict=True):
        for line in filter(None, map(str.strip, listing.read_text().splitlines())):
            if f"Images/{line}" not in names:
                raise InputError(f"{listing}: {line} is not in the archive")
            if f"Images/{line}" in assigned:
                raise InputError(f"{line} is listed twice, at last in {listing}")
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
# How many classes there are, how they are read, and from which files.
OWN = {
    "caltech256": (256, functools.partial(caltech256, per_class=30), _CALTECH),
    "caltech256-60": (256, functools.partial(caltech256, per_class=60), _CALTECH),
    "mit_indoor67": (67, mit_indoor67, _INDOOR),
}


def own_source(name: str, archives: Path) -> Source:
    """A set of ``OWN``, whose files are in ``archives`` unless it was decoded already.

    Raises:
      InputError: from ``open``, if a file is missing, with where it comes from, or if
        they are damaged or of other classes.
    """
    expected, assign, urls = OWN[name]

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
