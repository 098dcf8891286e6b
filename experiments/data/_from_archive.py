"""What the builders for TensorFlow Datasets here have in common.

They read the archives that the makers publish, without unpacking them; what is not in
the folder of archives is downloaded first.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from experiments import digests
from experiments.data import _archive
from experiments.data.official import check_connection, contents, prepare
from experiments.data.source import Contents, Source
from experiments.errors import InputError

SPLITS = {"train": "train", "test": "test"}


@dataclasses.dataclass(kw_only=True)
class ArchiveConfig(tfds.core.BuilderConfig):
    """Where the archives lie, and what is expected in them.

    Attributes:
      archives: the folder.
      classes: how many there have to be.
      per_class: training images of each class, where the makers give no split.
    """

    archives: Path = Path()
    classes: int = 0
    per_class: int = 0


class FromArchive(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Yields JPEG files from ``ARCHIVE`` as they are; subclasses say which and what."""

    VERSION = tfds.core.Version("1.0.0")
    URLS: Mapping[str, str]
    ARCHIVE: str
    HOMEPAGE: str

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(),
                "label": tfds.features.ClassLabel(),
                "file_name": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description=(type(self).__doc__ or "").strip(),
            features=features,
            supervised_keys=("image", "label"),
            homepage=self.HOMEPAGE,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> Any:
        paths = {file: self._locate(file, dl_manager) for file in self.URLS}
        assigned = self._assign(paths)
        labels = sorted({label for _, label in assigned.values()})
        expected = self._config.classes
        if len(labels) != expected:
            raise InputError(
                f"{paths[self.ARCHIVE]}: expected {expected} classes, found "
                f"{len(labels)}: {', '.join(labels[:5])}, ..."
            )
        features: Any = self.info.features
        features["label"].names = labels
        return {
            split: self._generate_examples(paths[self.ARCHIVE], split, assigned)
            for split in SPLITS
        }

    def _generate_examples(
        self, archive: Path, split: str, assigned: dict[str, tuple[str, str]]
    ) -> Iterator[tuple[str, dict]]:
        wanted = {name for name, (of, _) in assigned.items() if of == split}
        for name, encoded in _archive.contents(archive, wanted):
            label = assigned[name][1]
            yield name, {"image": encoded, "label": label, "file_name": name}

    def _assign(self, paths: dict[str, Path]) -> dict[str, tuple[str, str]]:
        """Split and class of every image that is used, by its name in the archive."""
        raise NotImplementedError

    @property
    def _config(self) -> ArchiveConfig:
        assert isinstance(self.builder_config, ArchiveConfig)
        return self.builder_config

    def _locate(self, file: str, dl_manager: tfds.download.DownloadManager) -> Path:
        path = self._config.archives / file
        if path.is_file():
            return path
        url = self.URLS[file]
        if not url.endswith(file):
            raise InputError(f"{path} is missing; it comes in {url}")
        check_connection(url.split("/")[2], f"Or put {url} there by hand, as {path}")
        return Path(dl_manager.download(url))


def archive_source(
    name: str,
    kind: type[FromArchive],
    config: ArchiveConfig,
    data_dir: Path,
    archives: Path,
) -> Source:
    """As ``own_source``, for any configuration."""
    builder = kind(
        config=dataclasses.replace(config, archives=archives),
        data_dir=str(data_dir),
        file_format="array_record",
    )

    def open_() -> Contents:
        prepare(builder, archives)
        found = contents(builder, SPLITS)
        read = {
            f"sha256 of {file}": digests.of_file(archives / file)
            for file in kind.URLS
            if (archives / file).is_file()
        }
        return dataclasses.replace(found, origin=found.origin | read)

    return Source(name, {"tfds": builder.info.full_name}, open_)
