"""The error for what a user can put right: shown on the command line, untraced."""

from collections.abc import Iterable


class InputError(ValueError):
    """A request that cannot be served; the message says which and what would do."""


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is in no table, with the names that are."""
    return InputError(f"unknown {kind} {name!r}; known: {', '.join(known)}")
