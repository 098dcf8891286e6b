"""From the names of image files to splits and classes."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from experiments.errors import InputError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
)
SPLITS = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "validation", "valid": "validation", "validation": "validation",
}  # fmt: skip
# Tiny ImageNet names the classes of its validation images in such a file.
ANNOTATIONS = "val_annotations.txt"


@dataclasses.dataclass(frozen=True)
class Layout:
    """What each image is.

    Attributes:
      classes: names, sorted.
      place: for each file's name its split and its label, in 0..len(classes)-1.
      images: how many there are in each split.
    """

    classes: tuple[str, ...]
    place: dict[str, tuple[str, int]]
    images: dict[str, int]


def is_image(name: str) -> bool:
    """By its suffix; what file managers hide away is no image."""
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def layout(where: str, names: Iterable[str], notes: Mapping[str, str]) -> Layout:
    """Reads splits and classes off the folders that images lie in.

    ``CLASS/x.jpg`` is one split, ``"all"``; ``train/CLASS/x.jpg`` beside
    ``test/CLASS/x.jpg`` or ``val/CLASS/x.jpg`` are several. Folders around all of it,
    and folders within a class, make no difference.

    Args:
      where: what was read, for errors.
      names: of all image files, with ``/``.
      notes: name and text of each ``val_annotations.txt``: lines of file and class,
        separated by a tab. They hold for the images in the folders beside it.

    Raises:
      InputError: if there are no images, one lies in no class, there are fewer than
        two classes, or a split has classes that the training split lacks.
    """
    names = sorted(names)
    if not names:
        raise InputError(
            f"{where} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    depth = _depth_of_root(names)
    is_split = all(_part(name, depth) in SPLITS for name in names)
    listed = _annotated(notes)
    found: dict[str, tuple[str, str]] = {}
    for name in names:
        split = SPLITS[_part(name, depth)] if is_split else "all"
        annotated = listed.get(_folder_and_file(name))
        folder = _part(name, depth + is_split)
        if annotated is None and not folder:
            raise InputError(f"{where}: {name} lies in no folder that names its class")
        found[name] = split, annotated or folder
    return _numbered(where, found)


def _numbered(where: str, found: dict[str, tuple[str, str]]) -> Layout:
    in_split: dict[str, set[str]] = {}
    for split, label in found.values():
        in_split.setdefault(split, set()).add(label)
    known = in_split.get("train") or set().union(*in_split.values())
    for split, labels in in_split.items():
        if extra := sorted(labels - known):
            raise InputError(
                f"{where}: split {split!r} has classes that 'train' has not: "
                f"{', '.join(extra[:5])}"
            )
    if len(known) < 2:
        raise InputError(f"{where}: expected 2 classes or more, found {sorted(known)}")
    classes = tuple(sorted(known))
    label = {name: number for number, name in enumerate(classes)}
    place = {name: (split, label[of]) for name, (split, of) in found.items()}
    images = Counter(split for split, _ in found.values())
    return Layout(classes, place, dict(images))


def _depth_of_root(names: list[str]) -> int:
    """How many folders lie around everything; those that name a split do not count."""
    depth = 0
    while True:
        firsts = {_part(name, depth) for name in names}
        if len(firsts) != 1 or firsts <= {"", *SPLITS}:
            return depth
        depth += 1


def _part(name: str, depth: int) -> str:
    """The folder at this depth, or nothing where there is only the file."""
    parts = name.split("/")[:-1]
    return parts[depth] if depth < len(parts) else ""


def _folder_and_file(name: str) -> tuple[str, str]:
    """Tiny ImageNet: ``val/images/val_0.JPEG`` is listed in ``val/``, as its name."""
    path = PurePosixPath(name)
    return str(path.parent.parent), path.name


def _annotated(notes: Mapping[str, str]) -> dict[tuple[str, str], str]:
    listed = {}
    for name, text in notes.items():
        folder = str(PurePosixPath(name).parent)
        for line in text.splitlines():
            file, label, *_ = [*line.split("\t"), ""]
            listed[folder, file] = label
    return listed
