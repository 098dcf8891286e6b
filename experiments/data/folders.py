"""Infers splits and classes from the names of image files."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from experiments.data.image import SUFFIXES
from experiments.errors import InputError

# Tiny ImageNet lists the classes of its validation images in this file.
ANNOTATIONS = "val_annotations.txt"
# Folders of operating systems for thumbnails and deleted files.
_SYSTEM = {"@eadir", "#recycle", "$recycle.bin"}
_SPLIT = re.compile(
    "(?:(?P<train>train(?:ing)?|trn)"
    "|(?P<validation>val|valid(?:ate|ation)?|dev(?:elopment)?|eval(?:uation)?)"
    "|(?P<test>test(?:ing)?|tst|holdout))(?:set|data|images?|imgs?)?"
)
# The first of these splits that exists defines the classes.
_ORDER = "train", "validation", "test", "all"
_NO_NAMES = {"set", "data", "dataset", "split", "image", "images", "img", "imgs"}

# The names of the folders on the way to a file or folder, outermost first.
Parts = tuple[str, ...]


def splits_and_classes(
    where: str, names: Iterable[str], notes: Mapping[str, str]
) -> tuple[tuple[str, ...], dict[str, tuple[str, int]], list[str]]:
    """Infers splits and classes from the folders of the images.

    Splits are sibling folders named train, val, test or similar, in any letter case and
    with common additions: ``Training``, ``dev``, ``test_set``, ``val_256``,
    ``cars_train``. Images outside of them are left out. Without such folders, all
    images form one split, ``"all"``.

    The training split defines the classes, or else the first split that exists. Folders
    that contain everything are ignored, and so is a folder of the same name within
    every class (``n01/images``). After that, if any folder of the first level directly
    contains images, the folders of the first level are the classes, with everything
    below them. Otherwise (``a/abbey/x.jpg``), the classes are the topmost folders that
    contain images. Images of other splits belong to the class that is named in a part
    of their path. Images next to the class folders are left out, and so is a split
    whose images are all in one folder that is not a class.

    Args:
      where: what was read, for error messages.
      names: names of all files and folders, with ``/``; folders end in ``/``.
      notes: name and text of each ``val_annotations.txt``: lines of file, tab, class.

    Returns:
      The sorted classes; the split and the label of each image, by name; and notes on
      what was left out, or decided where there was a choice.

    Raises:
      InputError: if splits or classes are ambiguous, there are fewer than two classes,
        or a folder next to the classes contains no image, because it may be a class and
        would change their labels.
    """
    words: list[str] = []
    visible = [x for x in names if _SYSTEM.isdisjoint(x.lower().split("/"))]
    if hidden := {x for x in names if not x.endswith("/")} - set(visible):
        words.append(f"left out {len(hidden)} system files: {some(hidden)}")
    files = {x: _parts(x)[:-1] for x in visible if not x.endswith("/")}
    images = {x: files[x] for x in files if _suffix(x).lower() in SUFFIXES}
    others = [x for x in files if x not in images and not x.endswith(ANNOTATIONS)]

    def leave_out(folders: Collection[Parts], why: str) -> None:
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
    leave_out(set(images.values()) - set(split), "outside the splits")
    listed = _listed(images, notes)
    inside: dict[str, dict[Parts, Parts]] = defaultdict(dict)
    for folder in {folder for x, folder in images.items() if x not in listed}:
        inside[split[folder][0]][folder] = split[folder][1]
    if not inside:
        raise InputError(
            f"{where}: {ANNOTATIONS} lists all images; expected class folders to train "
            "on, too"
        )
    main = min(inside, key=_ORDER.index)
    named, levels = _classes(where, set(inside[main].values()), words)
    taken = {path[:n] for path in inside[main].values() for n in range(1 + len(path))}
    for folder, (of, path) in sorted(split.items()):
        if of == main and path not in taken and path[:-1] in levels:
            held = _kinds(x for x in others if files[x] == folder)
            raise InputError(
                f"{where}: {'/'.join(folder)} is next to the class folders, but has no "
                f"image that can be read ({held}); remove it, or add images"
            )
    classes = tuple(sorted(set(named.values())))
    label: dict[Parts, str | None] = {}
    for name, paths in inside.items():
        of_path = named.get if name == main else lambda path: _known(path, classes)
        found = {folder: of_path(path) for folder, path in paths.items()}
        strange = {folder for folder in found if found[folder] is None}
        if len(strange) == len(found) == 1:
            leave_out(strange, f"of {name!r}, which have no labels")
        elif name != main and (extra := {"/".join(paths[x]) for x in strange} - {""}):
            raise InputError(
                f"{where}: {name!r} has classes that {main!r} lacks: {some(extra)}"
            )
        leave_out(strange, "next to the class folders")
        label |= found
    if extra := set(listed.values()) - set(classes):
        raise InputError(f"{where}: {ANNOTATIONS} names unknown classes: {some(extra)}")
    if unread := [x for x in others if files[x] in label]:
        words.append(f"left out files that are not images: {_kinds(unread)}")
    number: dict[str | None, int] = {name: rank for rank, name in enumerate(classes)}
    place = {
        image: (split[folder][0], number[listed.get(image) or label[folder]])
        for image, folder in images.items()
    }
    return classes, place, words


def some(names: Iterable[str], most: int = 5) -> str:
    """The first few names in sorted order."""
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + ", ..." * (len(ordered) > most)


def _parts(name: str) -> Parts:
    return tuple(name.split("/"))


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1] or name.split("/")[-1]


def _common(paths: Iterable[Parts]) -> Any:
    return os.path.commonprefix(list(paths))  # noqa: RUF071


def _kinds(files: Iterable[str]) -> str:
    counts = Counter(map(_suffix, files))
    return some(f"{kind} ({n})" for kind, n in counts.items()) or "nothing"


def _splits(where: str, folders: Collection[Parts]) -> tuple[Parts, dict[str, str]]:
    """The folder that contains the splits, and the split of each folder in it."""
    groups: dict[tuple[Parts, frozenset[str]], dict[str, str]] = defaultdict(dict)
    for parent, name in {(x[:n], x[n]) for x in folders for n in range(len(x))}:
        words = re.findall("[a-z]+", re.sub("([a-z])([A-Z])", r"\1 \2", name).lower())
        matches = [match for match in map(_SPLIT.fullmatch, words) if match]
        if len(matches) == 1:
            rest = frozenset(words) - _NO_NAMES - {matches[0][0]}
            groups[parent, rest][name] = str(matches[0].lastgroup)

    def alone(parent: Parts, names: Collection[str]) -> bool:
        # A class may be named "train". It is a split if only it has class folders.
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
        raise InputError(f"{where} has the splits of several data sets: {shown}")
    for (parent, _), names in found.items():
        return parent, names
    return (), {}


def _classes(where: str, paths: set[Parts], words: list[str]):
    """The class of each path, and the paths that contain the class folders.

    Paths next to the class folders are missing.
    """
    while len(paths) > 1 and (common := _common(paths)) in paths:
        paths = paths - {common}
    base = len(_common(paths)) - (len(paths) == 1)
    if base < 0:
        raise InputError(f"{where}: the images are not in folders named by class")
    # A common ending is left out too, but no path is left empty.
    alike = len(_common(path[::-1] for path in paths)) if len(paths) > 1 else 0
    end = min(alike, min(map(len, paths)) - base - 1)
    short = {path: path[base : len(path) - end] for path in paths}
    inner = some({"/".join(x) for x in short.values() if len(x) > 1})
    ends = set(short.values())
    if first := {x[:1] for x in ends} & ends:
        ends |= {x[:1] for x in ends}
    if inner:
        what = "parts of a class" if first else "the classes"
        words.append(f"folders read as {what}: {inner}")
    tops = {
        path: next(x[:n] for n in range(1, 1 + len(x)) if x[:n] in ends)
        for path, x in short.items()
    }
    named = {path: "/".join(top) for path, top in tops.items()}
    if len(set(named.values())) == 1:
        raise InputError(
            f"{where} has one class, {min(named.values())!r}; expected two or more, "
            "each in its own folder"
        )
    return named, {path[:base] + top[:-1] for path, top in tops.items()}


def _known(path: Parts, classes: Collection[str]) -> str | None:
    """The class named by a part of the path."""
    n = len(path)
    parts = ("/".join(path[i:j]) for i in range(n) for j in range(n, i, -1))
    return next((part for part in parts if part in classes), None)


def _listed(images: Mapping[str, Parts], notes: Mapping[str, str]) -> dict[str, str]:
    """Classes from Tiny ImageNet's lists: ``val/`` lists ``val/images/val_0.JPEG``."""
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
