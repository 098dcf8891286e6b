"""Errors that the user can fix. The command line shows them without a traceback."""

from collections.abc import Iterable
from pathlib import Path


class InputError(ValueError):
    """A request that cannot be served. The message says why, and what to do instead."""


def make_folder(path: Path) -> None:
    """Creates a folder, and raises an ``InputError`` if that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {path}: {error.strerror}") from error


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for an unknown name, which lists the known ones."""
    return InputError(f"unknown {kind} {name!r}; known: {', '.join(known)}")
