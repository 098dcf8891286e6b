"""A cache of decoded photographs: a folder of arrays for each source and size.

An entry is written under another name and renamed when complete, so that the remains of
a killed run are never taken for an entry. A lock makes a second process wait.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock

from experiments import digests
from experiments.data.dataset import Dataset
from experiments.data.image import DamagedImage, decode
from experiments.errors import InputError

# Increase by hand when a change to the code changes the content of an entry.
VERSION = 2


# Split, label, name, and the file or its content.
Example = tuple[str, int, str, Path | bytes]
# Classes, sizes of the splits, examples, and notes on what was left out or decided.
Contents = tuple[Sequence[str], dict[str, int], Iterable[Example], list[str]]


class Source(NamedTuple):
    """A source of photographs.

    ``open`` lists them, and may unpack them into the folder it is given. ``identity``
    is a JSON value that determines the images.
    """

    name: str
    identity: object
    open: Callable[[Path], Contents]


def read(
    source: Source,
    side: int,
    cache: Path,
    *,
    skip_damaged: bool = False,
    warn: Callable[[str], None] = print,
    advanced: Callable[[float], None] = lambda _: None,
) -> dict[str, Dataset]:
    """All splits of a source at ``side`` x ``side`` pixels, memory-mapped.

    Args:
      source: the photographs to decode.
      side: height and width in pixels.
      cache: folder of the cache.
      skip_damaged: leave out images that cannot be decoded, instead of raising.
      warn: called with notes on what was left out, and what was decided.
      advanced: called with the share of the work that was just done.
    """
    if side < 1:
        raise InputError(f"side must be at least 1 pixel, got {side}")
    description = [VERSION, source.name, source.identity, side, skip_damaged]
    slug = re.sub(r"[^\w.-]+", "-", source.name)
    place = cache / f"{slug}-{side}px-{digests.of_json(description)[:12]}"
    partial = cache / f".{place.name}.partial"
    cache.mkdir(parents=True, exist_ok=True)
    # The operating system releases the lock of a process that dies.
    with FileLock(cache / f".{place.name}.lock"):
        if place.exists():
            try:
                return _load(source.name, place, warn)
            except (OSError, ValueError, KeyError) as error:
                warn(f"remaking damaged cache entry {place.name}: {error}")
                shutil.rmtree(place)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            _write(partial, source, side, skip_damaged, advanced)
            partial.rename(place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return _load(source.name, place, warn)


def _load(name: str, place: Path, warn: Callable[[str], None]) -> dict[str, Dataset]:
    about = json.loads((place / "entry.json").read_text())
    classes, found = tuple(about["classes"]), {}
    for split in about["splits"]:
        labels = np.load(place / f"{split}-labels.npy")
        images = np.load(place / f"{split}-images.npy", mmap_mode="r")[: len(labels)]
        found[split] = Dataset(images, labels, name, len(classes), classes)
    for word in about["words"]:
        warn(word)
    return found


def _write(folder: Path, source: Source, side: int, skip_damaged: bool, advanced):
    def attempt(example: Example) -> np.ndarray | DamagedImage:
        try:
            return decode(example[-1], side)
        except DamagedImage as error:
            return error

    classes, sizes, examples, words = source.open(folder / "unpacked")
    images, labels, total = {}, {split: [] for split in sizes}, sum(sizes.values())
    for split, size in sizes.items():
        path, shape = folder / f"{split}-images.npy", (size, side, side, 3)
        images[split] = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    damaged, lost, examples = [], set(), iter(examples)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow releases the GIL
        # In batches, because `map` would read all examples ahead.
        while batch := list(islice(examples, 256)):
            for (split, label, name, _), pixels in zip(
                batch, pool.map(attempt, batch), strict=True
            ):
                if isinstance(pixels, DamagedImage):
                    damaged.append(f"{name} ({pixels})")
                    lost.add((split, label))
                else:
                    images[split][len(labels[split])] = pixels
                    labels[split].append(label)
                advanced(1 / total)
    if damaged:
        text = f"{len(damaged)} of {total} images of {source.name} are damaged: "
        text += ", ".join(damaged[:5]) + ", ..." * (len(damaged) > 5)
        if not skip_damaged:
            raise InputError(f"{text}; pass --skip-damaged to leave them out")
        words = [*words, f"left out: {text}"]
    for split, label in lost:
        if label not in labels[split]:
            raise InputError(f"{text}; none is left of {classes[label]!r} in {split!r}")
    for split, numbers in labels.items():
        np.save(folder / f"{split}-labels.npy", np.asarray(numbers, np.int32))
    about = {"classes": classes, "splits": list(sizes), "words": words}
    (folder / "entry.json").write_text(json.dumps(about))
    shutil.rmtree(folder / "unpacked", ignore_errors=True)
