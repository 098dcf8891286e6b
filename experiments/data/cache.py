"""Photographs decoded once: a folder of arrays for each source and size.

An entry holds, for every split, ``SPLIT-images.npy`` (uint8 ``[n, side, side, 3]``) and
``SPLIT-labels.npy`` (int32 ``[n]``), and ``entry.json``, which says what they are and
carries the digests of all. It is written under another name and renamed when complete,
so that what a killed run leaves behind is never taken for an entry. A lock makes a
second process wait for the first instead of doing the same work.
"""

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np
from filelock import FileLock

from experiments import digests
from experiments.data._decode import DamagedImage, decode
from experiments.data._npy import ArrayFile
from experiments.data.dataset import Dataset
from experiments.data.source import Contents, Example, Source
from experiments.errors import InputError, unknown

# Raised by hand when the code here or in `_decode` changes what an entry holds.
VERSION = 1


@dataclasses.dataclass(frozen=True)
class Entry:
    """A prepared source at one size; ``about`` is what ``entry.json`` says."""

    name: str
    folder: Path
    about: dict

    def dataset(self, split: str) -> Dataset:
        """One split; its images are mapped from the file, not read."""
        if split not in self.about["images"]:
            raise unknown(f"split of {self.name}", split, self.about["images"])
        images = np.load(self.folder / f"{split}-images.npy", mmap_mode="r")
        labels = np.load(self.folder / f"{split}-labels.npy")
        classes = tuple(self.about["classes"])
        return Dataset(images, labels, self.name, len(classes), classes)


def prepare(
    source: Source,
    side: int,
    folder: Path,
    *,
    skip_damaged: bool = False,
    warn: Callable[[str], None] = print,
    advanced: Callable[[float], None] = lambda _: None,
) -> Entry:
    """The entry of a source at ``side`` x ``side`` pixels: found, or made now.

    Args:
      source: what to decode.
      side: height and width in pixels.
      folder: of the cache; made where it is missing.
      skip_damaged: leave out images that cannot be decoded, with a warning.
      warn: is told of images left out, and of a damaged entry that is made again.
      advanced: called with the share of the work that was just done.

    Raises:
      InputError: if images are damaged and not to be skipped; it names the first five.
    """
    if side < 1:
        raise InputError(f"side must be at least 1 pixel, got {side}")
    description = {
        "version": VERSION, "source": source.identity, "side": side,
        "skip_damaged": skip_damaged,
    }  # fmt: skip
    slug = re.sub(r"[^\w.-]+", "-", source.name).strip("-")
    place = folder / f"{slug}-{side}px-{digests.of_json(description)[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    # The system takes the lock back from a process that dies.
    with FileLock(folder / f".{place.name}.lock"):
        if place.exists():
            try:
                found = Entry(source.name, place, _read(place, description))
            except (OSError, ValueError, KeyError) as error:
                warn(f"remaking damaged cache entry {place.name}: {error}")
                shutil.rmtree(place)
            else:
                advanced(1.0)
                return found
        partial = folder / f".{place.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            about = _write(partial, source, side, skip_damaged, warn, advanced)
            about = {"description": description, **about}
            (partial / "entry.json").write_text(json.dumps(about, indent=2))
            partial.rename(place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return Entry(source.name, place, about)


def _write(folder: Path, source: Source, side, skip_damaged, warn, advanced) -> dict:
    contents = source.open()
    total = sum(contents.images.values())
    labels: dict[str, list[int]] = {split: [] for split in contents.images}
    damaged: list[str] = []
    with ExitStack() as stack:
        images = {
            split: stack.enter_context(
                ArrayFile(folder / f"{split}-images.npy", (side, side, 3), np.uint8)
            )
            for split in contents.images
        }
        for example, pixels in _decoded(contents, side):
            if isinstance(pixels, DamagedImage):
                damaged.append(f"{example.name} ({pixels})")
            else:
                images[example.split].append(pixels)
                labels[example.split].append(example.label)
            advanced(1 / total)
    if damaged:
        text = f"{len(damaged)} of {total} images of {source.name} are damaged: "
        text += ", ".join(damaged[:5]) + (", ..." if len(damaged) > 5 else "")
        if not skip_damaged:
            raise InputError(f"{text}; skip_damaged leaves them out")
        warn(f"left out: {text}")
    for split, numbers in labels.items():
        np.save(folder / f"{split}-labels.npy", np.asarray(numbers, np.int32))
    return {
        "images": {split: len(numbers) for split, numbers in labels.items()},
        "classes": list(contents.classes),
        "origin": contents.origin,
        "damaged": damaged,
        "sha256": digests.of_folder(folder),
    }


def _decoded(
    contents: Contents, side: int
) -> Iterator[tuple[Example, np.ndarray | DamagedImage]]:
    """Every example, in order, decoded by all cores: Pillow lets go of the GIL."""

    def attempt(example: Example) -> np.ndarray | DamagedImage:
        try:
            return decode(example.encoded, side)
        except DamagedImage as error:
            return error

    examples = iter(contents.examples)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # In batches, since `map` would read all of them ahead.
        while batch := list(islice(examples, 256)):
            yield from zip(batch, pool.map(attempt, batch), strict=True)


def _read(folder: Path, description: dict) -> dict:
    about = json.loads((folder / "entry.json").read_text())
    if about["description"] != description:
        raise ValueError("it describes other images")
    for name, expected in about["sha256"].items():
        if digests.of_file(folder / name) != expected:
            raise ValueError(f"{name} does not fit its digest")
    return about
