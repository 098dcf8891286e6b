"""Caltech-101 and Caltech-256, as builders for TensorFlow Datasets."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from experiments.data import _archive
from experiments.data._from_archive import FromArchive
from experiments.errors import InputError


class Caltech256(FromArchive):
    """Caltech-256: 29,780 photographs of 256 kinds of objects, without the clutter.

    Its makers publish no digest of the archive; torchvision checks for the MD5
    67b4f42ca05d46448c6bb8ecd2220f6d. What was read is recorded by its SHA-256.

    30 or 60 images of each class are for training, as is usual, the others for
    testing; the makers give no split.
    """

    ARCHIVE = "256_ObjectCategories.tar"
    URLS = {  # noqa: RUF012
        ARCHIVE: "https://data.caltech.edu/records/nyy15-4j048/files/" + ARCHIVE
    }
    HOMEPAGE = "https://doi.org/10.22002/D1.20087"
    CLUTTER = "257.clutter"
    # Strays like 198.spider/RENAME2 and 056.dog/greg/... are not part of the set.
    _IMAGE = re.compile(r"(?:.*/)?((\d{3})\.[^/]+)/\2_\d{4}\.jpg")

    def _assign(self, paths: dict[str, Path]) -> dict[str, tuple[str, str]]:
        by_class: dict[str, list[str]] = {}
        for name in _archive.names(paths[self.ARCHIVE]):
            match = self._IMAGE.fullmatch(name)
            if match and match[1] != self.CLUTTER:
                by_class.setdefault(match[1], []).append(name)
        return _draw(by_class, self._config.per_class, paths[self.ARCHIVE])


class Caltech101Archive(FromArchive):
    """Caltech-101 from its archive: 9,144 photographs of 101 kinds and background.

    BACKGROUND_Google counts as a class, so that there are 102.
    As in TensorFlow Datasets' caltech101, 30 images of each class are for training.
    Which ones depends there on the order in which a disk lists files; here it does not.
    """

    ARCHIVE = "101_ObjectCategories.tar.gz"
    # It is published inside of this; TensorFlow Datasets' caltech101 downloads that.
    URLS = {  # noqa: RUF012
        ARCHIVE: "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip"
    }
    HOMEPAGE = "https://doi.org/10.22002/D1.20086"
    _IMAGE = re.compile(r"(?:.*/)?([^/]+)/image_\d{4}\.jpg")

    def _assign(self, paths: dict[str, Path]) -> dict[str, tuple[str, str]]:
        by_class: dict[str, list[str]] = {}
        for name in _archive.names(paths[self.ARCHIVE]):
            if match := self._IMAGE.fullmatch(name):
                by_class.setdefault(match[1], []).append(name)
        return _draw(by_class, self._config.per_class, paths[self.ARCHIVE])


def _draw(by_class: Mapping[str, Iterable[str]], per_class: int, where: Path):
    """``per_class`` training images of each class; the others are for testing.

    Each class is shuffled by a generator of its own, seeded with 0 and the class's
    rank, from its sorted names: the same on every machine, in every order of files.
    """
    assigned: dict[str, tuple[str, str]] = {}
    for rank, (label, names) in enumerate(sorted(by_class.items())):
        files = sorted(names)
        if len(files) <= per_class:
            raise InputError(
                f"{where}: class {label} has {len(files)} images, needs more than "
                f"{per_class}"
            )
        order = np.random.default_rng([0, rank]).permutation(len(files))
        for place, index in enumerate(order):
            split = "train" if place < per_class else "test"
            assigned[files[index]] = split, label
    return assigned
