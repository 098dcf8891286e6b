"""What a source of photographs offers, wherever they come from."""

import dataclasses
from collections.abc import Callable, Iterable


@dataclasses.dataclass(frozen=True)
class Example:
    """One image file: ``encoded`` is JPEG, PNG or what else Pillow reads."""

    name: str
    split: str
    label: int
    encoded: bytes


@dataclasses.dataclass(frozen=True)
class Contents:
    """A source that was opened.

    Attributes:
      classes: names, by label.
      images: how many there are in each split.
      examples: all of them, in any order; to be walked through once.
      origin: what they were read from, as JSON can hold it: archives with their
        SHA-256, or the name and version in TensorFlow Datasets.
    """

    classes: tuple[str, ...]
    images: dict[str, int]
    examples: Iterable[Example]
    origin: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Source:
    """Photographs that can be read.

    Attributes:
      name: what tables and figures call it.
      identity: what determines the images, as JSON can hold it; cheap to find out.
      open: lists them, after preparing them where that is needed; can take long.
    """

    name: str
    identity: dict[str, str]
    open: Callable[[], Contents]
