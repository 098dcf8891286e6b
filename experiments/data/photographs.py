"""Photographs by name, at the size that is asked for."""

from collections.abc import Callable
from pathlib import Path

from experiments.data import cache
from experiments.data.dataset import Dataset
from experiments.data.files import files_source
from experiments.data.source import Source
from experiments.errors import unknown

OWN_FILES = "folder:"


def source(name: str, folder: Path, tfds_dir: Path | None = None) -> Source:
    """Where the photographs ``name`` come from; nothing is read or downloaded yet.

    Args:
      name: a key of ``official.OFFICIAL`` or ``builders.OWN``, or ``"folder:PATH"``
        with a folder or an archive of one's own.
      folder: of all data; archives to be read lie in ``archives`` under it.
      tfds_dir: the ``data_dir`` of TensorFlow Datasets, by default ``folder/tfds``.

    Raises:
      InputError: if the name is unknown, with the known ones, or the path is missing.
    """
    if name.startswith(OWN_FILES):
        return files_source(Path(name.removeprefix(OWN_FILES)).expanduser())
    # Here, since this import takes two seconds, and one's own files do without.
    from experiments.data.builders import OWN, own_source
    from experiments.data.official import OFFICIAL, official_source

    data_dir = (tfds_dir or folder / "tfds").expanduser().resolve()
    archives = (folder / "archives").resolve()
    if name in OFFICIAL:
        return official_source(name, data_dir, archives)
    if name in OWN:
        return own_source(name, data_dir, archives)
    raise unknown("photographs", name, [*OFFICIAL, *OWN, f"{OWN_FILES}PATH"])


def photographs(
    name: str,
    split: str,
    side: int,
    folder: Path = Path("runs/data"),
    *,
    tfds_dir: Path | None = None,
    skip_damaged: bool = False,
    warn: Callable[[str], None] = print,
    advanced: Callable[[float], None] = lambda _: None,
) -> Dataset:
    """One split of a set of photographs, at ``side`` x ``side`` pixels.

    The shorter side is resized (bicubic, antialiased) and the middle of the longer one
    kept. What is not yet prepared is prepared now, all splits at once, and found in
    ``folder/arrays`` the next time.

    Args:
      name: see ``source``.
      split: ``"train"``, ``"test"``, ``"validation"``, as far as there are; ``"all"``
        where the source has no splits, to be split by ``few_shot``.
      side: height and width in pixels.
      folder: of all data.
      tfds_dir: see ``source``.
      skip_damaged: leave out images that cannot be decoded, with a warning.
      warn: is told of images left out, and of a damaged cache that is made again.
      advanced: called with the share of the work that was just done.

    Returns:
      The data set: uint8 ``[n, side, side, 3]``, mapped from a file.

    Raises:
      InputError: if name or split is unknown, with the known ones; if the data can be
        neither found nor prepared; if images are damaged and not to be skipped.
    """
    entry = cache.prepare(
        source(name, folder, tfds_dir),
        side,
        folder / "arrays",
        skip_damaged=skip_damaged,
        warn=warn,
        advanced=advanced,
    )
    return entry.dataset(split)
