"""Photographs by name, or from a user's own folder or archive."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

from experiments import digests
from experiments.data import files
from experiments.data.cache import Contents, Source, read
from experiments.data.dataset import Dataset
from experiments.data.folders import ANNOTATIONS, splits_and_classes
from experiments.errors import unknown

OWN_FILES = "folder:"


def read_folder(
    path: Path, side: int, *, cache: Path, **options: Any
) -> dict[str, Dataset]:
    """All splits of the images in a folder or an archive (tar, gz, xz, bz2, zip).

    ``folders.splits_and_classes`` describes how splits and classes are inferred, and
    ``image.decode`` how images become squares.

    Args:
      path: the folder or the archive.
      side: height and width in pixels.
      cache: folder of the decoded images, which are reused the next time.
      **options: ``skip_damaged``, ``warn`` and ``advanced``, see ``cache.read``.

    Returns:
      ``"train"`` and, if they exist, ``"validation"`` and ``"test"``; or only
      ``"all"``. All splits share their labels.

    Raises:
      InputError: if files, splits or classes cannot be read, or images are damaged.
    """
    return read(_source(path), side, cache, **options)


def photographs(
    name: str,
    split: str,
    side: int,
    folder: Path = Path("runs/data"),
    **options: Any,
) -> Dataset:
    """One split of a set of photographs, at ``side`` x ``side`` pixels.

    Args:
      name: a key of ``official.OFFICIAL`` or ``archives.ARCHIVED``, or
        ``"folder:PATH"`` with the path of a folder or an archive.
      split: ``"train"``, ``"test"`` or ``"validation"``, if the source has it; or
        ``"all"`` if the source has no splits, to be split by ``few_shot``.
      side: height and width in pixels.
      folder: data folder, with downloaded archives in ``archives``, what TensorFlow
        Datasets prepared in ``tfds``, and decoded images in ``arrays``.
      **options: see ``read_folder``.
    """
    if name.startswith(OWN_FILES):
        source = _source(Path(name.removeprefix(OWN_FILES)).expanduser())
    else:
        # Imported here because it takes two seconds and the user's own files need
        # neither.
        from experiments.data.archives import ARCHIVED, archived_source
        from experiments.data.official import OFFICIAL, official_source

        if name not in {**OFFICIAL, **ARCHIVED}:
            raise unknown(
                "photographs", name, [*OFFICIAL, *ARCHIVED, f"{OWN_FILES}PATH"]
            )
        if name in ARCHIVED:
            source = archived_source(name, folder / "archives")
        else:
            source = official_source(name, (folder / "tfds").resolve())
    splits = read(source, side, folder / "arrays", **options)
    if split not in splits:
        raise unknown(f"split of {name}", split, splits)
    return splits[split]


def _source(path: Path) -> Source:
    path = Path(os.path.abspath(path))

    def open_(scratch: Path) -> Contents:
        root = files.unpacked(path, scratch)
        names = files.names(root)
        listings = [root / x for x in names if x.endswith(ANNOTATIONS)]
        notes = {
            str(x.relative_to(root)): x.read_text(encoding="utf-8", errors="replace")
            for x in listings
        }
        classes, place, words = splits_and_classes(str(path), names, notes)
        sizes = Counter(split for split, _ in place.values())
        examples = ((*place[x], str(path / x), root / x) for x in place)
        return classes, sizes, examples, words

    identity = [path.name, digests.of_json(files.stamps(path))]
    return Source(files.stem(path), identity, open_)
