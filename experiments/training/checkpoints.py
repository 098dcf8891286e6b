"""Checkpoints of a run, written by Orbax in the background and atomically."""

import contextlib
import gc
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from experiments.errors import InputError
from experiments.training import names

KEEP = 2


class Checkpoints:
    """The checkpoints of one run, in a folder. A context manager."""

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        say: Callable[[str], None] = print,
    ):
        """Opens the folder, and creates it if missing.

        Args:
          folder: has one folder per checkpoint number; anything else is ignored.
          settings: a JSON object with the settings that determine the run.
          say: called with messages about resuming and unreadable checkpoints.

        Raises:
          InputError: if the folder cannot be created.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write {folder}: {error.strerror}") from error
        self._settings = json.loads(json.dumps(settings))
        self.say = say
        self._damaged: set[int] = set()
        self._manager = ocp.CheckpointManager(
            folder.resolve(), options=ocp.CheckpointManagerOptions(max_to_keep=KEEP)
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def restore(self, like: Any) -> tuple[Any, int]:
        """The newest readable tree and its number, or else ``like`` and 0.

        Raises:
          InputError: if it is from a run with other settings.
        """
        for number in sorted(self._manager.all_steps(), reverse=True):
            found = self._read(number, names.flatten(like))
            if not isinstance(found, str):
                return names.unflatten(like, found), number
            self._damaged.add(number)
            logging.getLogger("asyncio").addFilter(_was_retrieved)
            self.say(f"checkpoint {number} cannot be read and is skipped: {found}")
        return like, 0

    def save(self, number: int, tree: Any) -> None:
        """Copies the tree and writes it in the background, after the previous one.

        An existing checkpoint of the same number is kept, unless it is damaged.
        """
        if number in self._damaged:
            self._manager.delete(number)
            self._damaged.remove(number)
        self._manager.save(
            number,
            args=ocp.args.Composite(
                tree=ocp.args.StandardSave(names.flatten(tree)),
                about=ocp.args.JsonSave(self._settings),
            ),
        )

    def _read(self, number: int, like: Mapping[str, Any]) -> Mapping[str, Any] | str:
        """The leaves, or why they cannot be read."""
        about = ocp.args.Composite(about=ocp.args.JsonRestore())
        tree = ocp.args.Composite(tree=ocp.args.StandardRestore(like))
        with _silence():
            try:
                self._check(number, self._manager.restore(number, args=about)["about"])
                return self._manager.restore(number, args=tree)["tree"]
            except InputError:
                raise
            except Exception as error:  # Orbax raises all kinds of errors
                return (str(error).splitlines() or [type(error).__name__])[0]

    def _check(self, number: int, found: Mapping[str, Any]) -> None:
        for name in sorted(found.keys() | self._settings.keys()):
            there, here = found.get(name, "none"), self._settings.get(name, "none")
            if there != here:
                raise InputError(
                    f"checkpoint {number} in {self._manager.directory} was made with "
                    f"{name} = {there}, this run has {here}: use the options of that "
                    "run, or another --out"
                )


def _was_retrieved(record: logging.LogRecord) -> bool:
    """False for other failed reads, which asyncio logs later than the reported one."""
    return "never retrieved" not in record.getMessage()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Hides the logs and warnings of Orbax about unreadable files."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
            gc.collect()
    finally:
        logging.disable(before)
