"""Errors that the user can fix. The command line shows them without a traceback."""

from collections.abc import Iterable


class InputError(ValueError):
    """A request that cannot be served. The message says why, and what to do instead."""


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for an unknown name, which lists the known ones."""
    return InputError(f"unknown {kind} {name!r}; known: {', '.join(known)}")
