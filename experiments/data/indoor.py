"""MIT Indoor 67, as a builder for TensorFlow Datasets."""

from pathlib import Path

from experiments.data import _archive
from experiments.data._from_archive import FromArchive
from experiments.errors import InputError


class MitIndoor67(FromArchive):
    """MIT Indoor Scenes: 67 kinds of rooms, 80 images a class to train, 20 to test.

    The official lists name 6,700 of the archive's 15,620 images; the others are not
    used.
    """

    ARCHIVE = "indoorCVPR_09.tar"
    LISTS = {"train": "TrainImages.txt", "test": "TestImages.txt"}  # noqa: RUF012
    URLS = {  # noqa: RUF012
        ARCHIVE: "http://groups.csail.mit.edu/vision/LabelMe/NewImages/" + ARCHIVE,
        "TrainImages.txt": "http://web.mit.edu/torralba/www/TrainImages.txt",
        "TestImages.txt": "http://web.mit.edu/torralba/www/TestImages.txt",
    }
    HOMEPAGE = "http://web.mit.edu/torralba/www/indoor.html"

    def _assign(self, paths: dict[str, Path]) -> dict[str, tuple[str, str]]:
        present = set(_archive.names(paths[self.ARCHIVE]))
        assigned: dict[str, tuple[str, str]] = {}
        for split, file in self.LISTS.items():
            listed = paths[file].read_text().split("\n")
            for line in filter(None, map(str.strip, listed)):
                name = f"Images/{line}"
                if name not in present:
                    raise InputError(
                        f"{paths[file]} lists {line}, which {paths[self.ARCHIVE]} "
                        "does not hold"
                    )
                if name in assigned:
                    raise InputError(
                        f"{line} is listed twice, at last in {paths[file]}"
                    )
                assigned[name] = split, line.split("/")[0]
        return assigned
