"""Checkpoints of a run, by Orbax: written in the background, whole or not at all."""

import json
from collections.abc import Callable, Mapping
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
        warn: Callable[[str], None] = print,
    ):
        """Opens the folder, which is made where it is missing.

        Args:
          folder: holds one folder for each step; anything else in it is ignored.
          settings: what determines the run, as JSON can hold it.
          warn: is told of checkpoints that cannot be read.
        """
        self._settings = json.loads(json.dumps(settings))
        self._warn = warn
        self._damaged: set[int] = set()
        self._manager = ocp.CheckpointManager(
            folder.resolve(), options=ocp.CheckpointManagerOptions(max_to_keep=KEEP)
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def restore(self, like: Any) -> tuple[Any, int]:
        """The newest tree that can be read and its step, else ``like`` and 0.

        Raises:
          InputError: if it is of a run with other settings.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                about = self._manager.restore(
                    step, args=ocp.args.Composite(about=ocp.args.JsonRestore())
                )["about"]
                self._check(step, about)
                leaves = self._manager.restore(
                    step,
                    args=ocp.args.Composite(
                        tree=ocp.args.StandardRestore(names.flatten(like)),
                    ),
                )["tree"]
            except InputError:
                raise
            except Exception as error:  # Orbax raises whatever its parsers meet
                self._damaged.add(step)
                first = (str(error).splitlines() or [type(error).__name__])[0]
                self._warn(f"checkpoint {step} cannot be read and is skipped: {first}")
            else:
                return names.unflatten(like, leaves), step
        return like, 0

    def save(self, step: int, tree: Any) -> None:
        """Copies the tree and writes it in the background, after the one before.

        A checkpoint of the same number stays unless it is damaged.
        """
        if step in self._damaged:
            self._manager.delete(step)
            self._damaged.remove(step)
        self._manager.save(
            step,
            args=ocp.args.Composite(
                tree=ocp.args.StandardSave(names.flatten(tree)),
                about=ocp.args.JsonSave(self._settings),
            ),
        )

    def _check(self, step: int, found: Mapping[str, Any]) -> None:
        for name in sorted(found.keys() | self._settings.keys()):
            there, here = found.get(name, "none"), self._settings.get(name, "none")
            if there != here:
                raise InputError(
                    f"checkpoint {step} in {self._manager.directory} was written with "
                    f"{name} = {there}, here it is {here}: use the options of that "
                    "run, or another --out"
                )
