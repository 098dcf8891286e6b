"""Checkpoints: written in the background, whole or not at all; only sound ones read."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import preservation_policy

from experiments.trainer import names, record
from experiments.trainer.processes import meet
from experiments.trainer.step import State

# How Orbax's temporary folders go on after the number of the step.
UNFINISHED = ".orbax-checkpoint-tmp"


class Checkpoints:
    """The checkpoints of one run, in ``out/checkpoints/STEP``; a context manager.

    Every process makes one and calls its methods alike.
    """

    def __init__(
        self,
        out: Path,
        like: State,
        about: dict[str, Any],
        keep: int,
        warn: Callable[[str], None],
    ):
        """Looks through what is there.

        Args:
          out: folder of the run.
          like: the state as ``jax.ShapeDtypeStruct``, with shardings: how to restore.
          about: what ``record.write`` takes, but for the arrays' names and kinds.
          keep: how many checkpoints stay.
          warn: is told of each that is damaged, and why.

        Raises:
          InputError: if the newest sound one is not of this run.
        """
        self._like = like
        self._about = {**about, "arrays": names.kinds(like)}
        self._folder = out.resolve() / "checkpoints"
        self._saving = 0
        newest = 0
        if jax.process_index() == 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            newest = self._newest(out.resolve() / "damaged", warn)
        # Folders are moved and removed before Orbax looks at them.
        meet("checkpoints")
        newest = multihost_utils.broadcast_one_to_all(np.int32(newest))
        self._restored = int(newest)
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=preservation_policy.LatestN(keep),
                async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def restore(self) -> State | None:
        """The newest sound state, on the devices that ``like`` says; ``None`` if none.

        On whichever devices it lay when it was written.
        """
        if not self._restored:
            return None
        like = ocp.args.StandardRestore(names.flatten(self._like))  # pyright: ignore
        found = self._manager.restore(
            self._restored, args=ocp.args.Composite(**{record.ARRAYS: like})
        )
        return names.unflatten(self._like, found[record.ARRAYS])

    def save(self, step: int, state: State) -> None:
        """Copies the state and writes it in the background, after the one before."""
        self._manager.wait_until_finished()
        self._saving = step
        arrays = ocp.args.StandardSave(names.flatten(state))  # pyright: ignore
        self._manager.save(
            step, args=ocp.args.Composite(**{record.ARRAYS: arrays}), force=True
        )

    def _seal(self) -> None:
        """Runs in the background in process 0, just before Orbax renames the folder."""
        (unfinished,) = self._folder.glob(f"{self._saving}{UNFINISHED}*")
        record.write(unfinished, self._about)

    def _newest(self, damaged: Path, warn: Callable[[str], None]) -> int:
        """The step of the newest sound checkpoint, 0 if there is none."""
        for path in self._folder.glob(f"*{UNFINISHED}*"):
            warn(f"removing checkpoint {path.name}: it was cut short")
            shutil.rmtree(path)
        steps = [int(path.name) for path in self._folder.iterdir()]
        for step in sorted(steps, reverse=True):
            path = self._folder / str(step)
            try:
                found = record.read(path)
            except record.Damaged as error:
                damaged.mkdir(exist_ok=True)
                kept = tempfile.mkdtemp(prefix=f"{step}-", dir=damaged)
                warn(f"skipping checkpoint {step}, moved to {kept}: {error}")
                path.rename(Path(kept) / path.name)
            else:
                record.check(path, found, self._about)
                return step
        return 0
