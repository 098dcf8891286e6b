"""Writes the measurements of a run for TensorBoard while it trains."""

import importlib.util
from pathlib import Path

import numpy as np

from experiments.errors import InputError
from experiments.training.loop import Progress


def check() -> None:
    """Raises an ``InputError`` if the package is missing."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise InputError(
            "--tensorboard needs the package tensorboardX: pip install -e "
            "'.[tensorboard]'"
        )


class Live:
    """Writes event files to a folder: the means over seeds, after every piece."""

    def __init__(self, folder: Path):
        from tensorboardX import SummaryWriter  # optional dependency

        self._writer = SummaryWriter(str(folder))

    def __call__(self, step: int, progress: Progress) -> None:
        trace = progress.trace
        at = np.flatnonzero(np.isfinite(trace.loss[0]))[-1]  # the last point so far
        self._writer.add_scalar("loss", trace.loss[:, at].mean(), step)
        if trace.cosine is not None:
            self._writer.add_scalar("conflict", trace.conflict[:, at].mean(), step)
            self._writer.add_histogram("cosine", trace.cosine[:, at].ravel(), step)
            self._writer.add_scalar("pull", np.median(trace.pull[:, at]), step)
        self._writer.flush()

    def close(self) -> None:
        """Writes what is still in the queue, and closes the file."""
        self._writer.close()
