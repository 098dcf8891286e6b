"""Data sets that TensorFlow Datasets lacks, or prepares only with TensorFlow."""

from pathlib import Path

from experiments.data._from_archive import ArchiveConfig, FromArchive, archive_source
from experiments.data.caltech import Caltech101Archive, Caltech256
from experiments.data.indoor import MitIndoor67
from experiments.data.source import Source

OWN: dict[str, tuple[type[FromArchive], ArchiveConfig]] = {
    "caltech101-archive": (
        Caltech101Archive,
        ArchiveConfig(name="30", classes=102, per_class=30),
    ),
    "caltech256": (Caltech256, ArchiveConfig(name="30", classes=256, per_class=30)),
    "caltech256-60": (Caltech256, ArchiveConfig(name="60", classes=256, per_class=60)),
    "mit_indoor67": (MitIndoor67, ArchiveConfig(name="official", classes=67)),
}


def own_source(name: str, data_dir: Path, archives: Path) -> Source:
    """A data set of ``OWN``, prepared under ``data_dir`` or to be prepared there.

    Args:
      name: a key of ``OWN``.
      data_dir: as TensorFlow Datasets uses it.
      archives: folder where the makers' archives lie, under their own names.

    Raises:
      InputError: from ``open``, where an archive is missing and cannot be downloaded,
        is damaged, or does not hold what it should.
    """
    kind, config = OWN[name]
    return archive_source(name, kind, config, data_dir, archives)
