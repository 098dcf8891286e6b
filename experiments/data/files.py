"""Photographs in a folder or an archive of the user's own."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from experiments import digests
from experiments.data import _archive
from experiments.data._layout import ANNOTATIONS, Layout, is_image, layout
from experiments.data.source import Contents, Example, Source
from experiments.errors import InputError


def files_source(path: Path) -> Source:
    """The images under a folder or in an archive: ``CLASS/x.jpg`` and the like.

    The forms are those of ``_layout.layout``. All folders count as classes: of
    Caltech-101's archive also BACKGROUND_Google, which makes 102 as in TensorFlow
    Datasets.

    Raises:
      InputError: if there is no such path; ``open`` raises it for what is wrong inside.
    """
    if not path.exists():
        raise InputError(f"no such file or folder: {path}")
    # Not the content: that would mean to read it all at every start. Nor the folder,
    # so that data can be moved.
    parts = [path] if path.is_file() else sorted(path.rglob("*"))
    stamps = [
        (
            str(part.relative_to(path.parent)),
            part.stat().st_size,
            part.stat().st_mtime_ns,
        )
        for part in parts
        if part.is_file()
    ]
    name = path.name.split(".tar")[0].removesuffix(".zip").removesuffix(".tgz")
    return Source(
        name,
        {"path": path.name, "names, sizes and times": digests.of_json(stamps)},
        lambda: _open(path),
    )


def _open(path: Path) -> Contents:
    names = _archive.names(path)
    listings = {name for name in names if PurePosixPath(name).name == ANNOTATIONS}
    notes = {
        name: content.decode(errors="replace")
        for name, content in (_archive.contents(path, listings) if listings else ())
    }
    found = layout(str(path), filter(is_image, names), notes)
    origin = {"path": str(path.resolve())}
    if path.is_file():
        origin |= {"bytes": str(path.stat().st_size), "sha256": digests.of_file(path)}
    return Contents(found.classes, found.images, _examples(path, found), origin)


def _examples(path: Path, found: Layout) -> Iterator[Example]:
    for name, encoded in _archive.contents(path, found.place):
        yield Example(name, *found.place[name], encoded)
