"""From the names of image files to splits and classes."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from experiments.data.image import SUFFIXES
from experiments.errors import InputError

# Tiny ImageNet names the classes of its validation images in such a file.
ANNOTATIONS = "val_annotations.txt"
# Where systems keep thumbnails and what was thrown away.
_SYSTEM = {"@eadir", "#recycle", "$recycle.bin"}
_SPLIT = re.compile(
    "(?:(?P<train>train(?:ing)?|trn)"
    "|(?P<validation>val|valid(?:ate|ation)?|dev(?:elopment)?|eval(?:uation)?)"
    "|(?P<test>test(?:ing)?|tst|holdout))(?:set|data|images?|imgs?)?"
)
# Of several splits, the first that there is says which classes there are.
_ORDER = "train", "validation", "test", "all"
_NO_NAMES = {"set", "data", "dataset", "split", "image", "images", "img", "imgs"}

# The names of the folders that lead to a file or folder, outermost first.
Path = tuple[str, ...]


def layout(
    where: str, names: Iterable[str], notes: Mapping[str, str]
) -> tuple[tuple[str, ...], dict[str, tuple[str, int]], list[str]]:
    """Reads splits and classes off the folders that images are in.

    Splits are folders beside each other that are called train, val, test or the like,
    in any case and with the usual additions: ``Training``, ``dev``, ``test_set``,
    ``val_256``, ``cars_train``. Images elsewhere are left out. Without such folders
    all images are one split, ``"all"``.

    The classes are those of the training images, or of the first split that there is.
    Folders around everything make no difference, nor do folders of one name within
    every class (``n01/images``).
    If then any image is in a folder of the first level, the folders of the first level
    are the classes, with all that they hold. If not (``a/abbey/x.jpg``), the classes
    are the topmost folders that hold images. Other splits' images are of the class that
    a part of their path names. Images beside the class folders are left out, and so is
    a split with all images in one folder that is no class.

    Args:
      where: what was read, for errors.
      names: of all files, with ``/``, and of all folders, with ``/`` at the end.
      notes: name and text of each ``val_annotations.txt``: lines of file, tab, class.

    Returns:
      The classes, sorted; of each image's name the split and the label; and what was
      left out, or decided where there was a choice, in words.

    Raises:
      InputError: if splits or classes cannot be told, or there are fewer than two; if a
        folder beside the classes holds no image, which would change their numbers.
    """
    words: list[str] = []
    visible = [x for x in names if _SYSTEM.isdisjoint(x.lower().split("/"))]
    if hidden := {x for x in names if not x.endswith("/")} - set(visible):
        words.append(f"left out {len(hidden)} files of the system: {some(hidden)}")
    files = {x: _parts(x)[:-1] for x in visible if not x.endswith("/")}
    images = {x: files[x] for x in files if _suffix(x).lower() in SUFFIXES}
    others = [x for x in files if x not in images and not x.endswith(ANNOTATIONS)]

    def leave_out(folders: Collection[Path], why: str) -> None:
        gone = [image for image, folder in images.items() if folder in folders]
        if gone:
            shown = some("/".join(folder) or "." for folder in folders)
            words.append(f"left out, {why}: {len(gone)} images ({shown})")
        for image in gone:
            del images[image]

    if not images:
        raise InputError(
            f"{where} holds no images ({some(SUFFIXES, 99)}), but {_kinds(others)}"
        )
    root, splits = _splits(where, set(images.values()))
    depth = len(root)
    split = {}
    for folder in {_parts(name)[:-1] for name in visible}:
        if not splits:
            split[folder] = "all", folder
        elif folder[:depth] == root and splits.keys() & folder[depth : depth + 1]:
            split[folder] = splits[folder[depth]], folder[depth + 1 :]
    leave_out(set(images.values()) - set(split), "outside of the splits")
    listed = _listed(images, notes)
    inside: dict[str, dict[Path, Path]] = defaultdict(dict)
    for folder in {folder for x, folder in images.items() if x not in listed}:
        inside[split[folder][0]][folder] = split[folder][1]
    main = min(inside, key=_ORDER.index)
    named, levels = _classes(where, set(inside[main].values()), words)
    taken = {path[:n] for path in inside[main].values() for n in range(1 + len(path))}
    for folder, (of, path) in sorted(split.items()):
        if of == main and path not in taken and path[:-1] in levels:
            held = _kinds(x for x in others if files[x] == folder)
            raise InputError(
                f"{where}: {'/'.join(folder)} is beside the classes, but no image "
                f"that can be read ({held}) is in it; remove it, or add images"
            )
    classes = tuple(sorted(set(named.values())))
    label: dict[Path, str | None] = {}
    for name, paths in inside.items():
        of_path = named.get if name == main else lambda path: _known(path, classes)
        found = {folder: of_path(path) for folder, path in paths.items()}
        strange = {folder for folder in found if found[folder] is None}
        if len(strange) == len(found) == 1:
            leave_out(strange, f"of {name!r}, which have no labels")
        elif name != main and (extra := {"/".join(paths[x]) for x in strange} - {""}):
            raise InputError(
                f"{where}: {name!r} has classes that {main!r} has not: {some(extra)}"
            )
        leave_out(strange, "beside the class folders")
        label |= found
    if extra := set(listed.values()) - set(classes):
        raise InputError(f"{where}: {ANNOTATIONS} names unknown classes: {some(extra)}")
    if unread := [x for x in others if files[x] in label]:
        words.append(f"left out files that are no images: {_kinds(unread)}")
    number: dict[str | None, int] = {name: rank for rank, name in enumerate(classes)}
    place = {
        image: (split[folder][0], number[listed.get(image) or label[folder]])
        for image, folder in images.items()
    }
    return classes, place, words


def some(names: Iterable[str], most: int = 5) -> str:
    """The first few names, in order."""
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + ", ..." * (len(ordered) > most)


def _parts(name: str) -> Path:
    return tuple(name.split("/"))


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1] or name.split("/")[-1]


def _common(paths: Iterable[Path]) -> Any:
    return os.path.commonprefix(list(paths))  # noqa: RUF071


def _kinds(files: Iterable[str]) -> str:
    counts = Counter(map(_suffix, files))
    return some(f"{kind} ({n})" for kind, n in counts.items()) or "nothing"


def _splits(where: str, folders: Collection[Path]) -> tuple[Path, dict[str, str]]:
    """The folder that holds the splits, and which split each folder in it is."""
    groups: dict[tuple[Path, frozenset[str]], dict[str, str]] = defaultdict(dict)
    for parent, name in {(x[:n], x[n]) for x in folders for n in range(len(x))}:
        words = re.findall("[a-z]+", re.sub("([a-z])([A-Z])", r"\1 \2", name).lower())
        matches = [match for match in map(_SPLIT.fullmatch, words) if match]
        if len(matches) == 1:
            rest = frozenset(words) - _NO_NAMES - {matches[0][0]}
            groups[parent, rest][name] = str(matches[0].lastgroup)

    def alone(parent: Path, names: Collection[str]) -> bool:
        # A class may be called train. It is a split if only it has class folders.
        n = len(parent)
        return all(
            x[:n] == parent and (len(x) > n + 1) == (len(x) > n and x[n] in names)
            for x in folders
        )

    found = {
        (parent, rest): names
        for (parent, rest), names in groups.items()
        if len(set(names.values())) > 1 or (not rest and alone(parent, names))
    }
    parents = {parent for parent, _ in found}
    inner = {x for x in parents if any(x[:n] in parents for n in range(len(x)))}
    found = {key: names for key, names in found.items() if key[0] not in inner}
    if len(found) > 1:
        shown = some(
            "/".join((*x, y)) for (x, _), names in found.items() for y in names
        )
        raise InputError(f"{where} holds several sets' splits: {shown}")
    for (parent, _), names in found.items():
        return parent, names
    return (), {}


def _classes(where: str, paths: set[Path], words: list[str]):
    """The class of each path, and the paths that classes are in.

    Paths beside the class folders are missing.
    """
    while len(paths) > 1 and (common := _common(paths)) in paths:
        paths = paths - {common}
    base = len(_common(paths)) - (len(paths) == 1)
    if base < 0:
        raise InputError(f"{where}: the images are in no folder that names their class")
    # What they end in alike is left out too, but not all of any.
    alike = len(_common(path[::-1] for path in paths)) if len(paths) > 1 else 0
    end = min(alike, min(map(len, paths)) - base - 1)
    short = {path: path[base : len(path) - end] for path in paths}
    inner = some({"/".join(x) for x in short.values() if len(x) > 1})
    ends = set(short.values())
    if first := {x[:1] for x in ends} & ends:
        ends |= {x[:1] for x in ends}
    if inner:
        what = "parts of a class" if first else "the classes"
        words.append(f"folders that are read as {what}: {inner}")
    tops = {
        path: next(x[:n] for n in range(1, 1 + len(x)) if x[:n] in ends)
        for path, x in short.items()
    }
    named = {path: "/".join(top) for path, top in tops.items()}
    if len(set(named.values())) == 1:
        raise InputError(
            f"{where} holds one class, {min(named.values())!r}; expected two or more, "
            "each in a folder of its own"
        )
    return named, {path[:base] + top[:-1] for path, top in tops.items()}


def _known(path: Path, classes: Collection[str]) -> str | None:
    """The class that a part of the path names."""
    n = len(path)
    parts = ("/".join(path[i:j]) for i in range(n) for j in range(n, i, -1))
    return next((part for part in parts if part in classes), None)


def _listed(images: Mapping[str, Path], notes: Mapping[str, str]) -> dict[str, str]:
    """Tiny ImageNet: ``val/images/val_0.JPEG`` is listed in ``val/``, as its name."""
    classes = {
        (*_parts(note)[:-1], line.split("\t")[0]): line.split("\t")[1]
        for note, text in notes.items()
        for line in text.splitlines()
        if "\t" in line
    }
    keys = {
        name: (*folder[:-1], name.split("/")[-1]) for name, folder in images.items()
    }
    return {name: classes[key] for name, key in keys.items() if key in classes}
