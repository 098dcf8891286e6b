"""Checkpoints of a run, by Orbax: written in the background, whole or not at all."""

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
    """The checkpoints in a folder, of one run; a context manager."""

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        say: Callable[[str], None] = print,
    ):
        """Opens the folder, which is made where it is missing.

        Args:
          folder: holds one folder for each number; anything else in it is ignored.
          settings: what determines the run, as JSON can hold it.
          say: is told where a run resumes, and of checkpoints that cannot be read.
        """
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
        """The newest tree that can be read and its number, else ``like`` and 0.

        Raises:
          InputError: if it is of a run with other settings.
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
        """Copies the tree and writes it in the background, after the one before.

        A checkpoint of the same number stays unless it is damaged.
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
            except Exception as error:  # Orbax raises whatever its parsers meet
                return (str(error).splitlines() or [type(error).__name__])[0]

    def _check(self, number: int, found: Mapping[str, Any]) -> None:
        for name in sorted(found.keys() | self._settings.keys()):
            there, here = found.get(name, "none"), self._settings.get(name, "none")
            if there != here:
                raise InputError(
                    f"checkpoint {number} in {self._manager.directory} was made with "
                    f"{name} = {there}, here it is {here}: use the options of that "
                    "run, or another --out"
                )


def _was_retrieved(record: logging.LogRecord) -> bool:
    """False for reads that failed beside the one that is reported: logged later."""
    return "never retrieved" not in record.getMessage()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Hides what Orbax logs and leaves behind where it cannot read a file."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
            gc.collect()
    finally:
        logging.disable(before)
