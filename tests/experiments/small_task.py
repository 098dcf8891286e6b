"""A task that trains in a second, and a program that trains on it in its own process.

As a program it takes its options as JSON, see ``main``.
"""

import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path

import jax
import numpy as np

from experiments import cell
from experiments.data import Dataset
from experiments.methods import method
from experiments.networks import Architecture
from experiments.recipe import Recipe
from experiments.training import devices, loop
from experiments.training import job as jobs
from experiments.training.checkpoints import Checkpoints
from experiments.training.interruption import Interrupted
from experiments.training.names import flatten

# For images of 4x4 pixels and three classes.
SMALL = Architecture(side=4, channels=(4, 6, 8), hidden=16, classes=3)
# Chunks of 4 steps, pieces of 2.
RECIPE = Recipe(steps=40, batch_size=8, learning_rate=0.05)
SEEDS = 2
PIECE_BYTES = 2 * SEEDS * RECIPE.batch_size * 4 * 4 * 4


def dataset() -> Dataset:
    """60 images whose class is the bright row: learnable in few steps."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3, dtype=np.int32), 20)
    images = rng.uniform(0, 0.3, (60, 4, 4, 1)).astype(np.float32)
    images[np.arange(60), labels] += 0.7
    return Dataset(images, labels, "stripes", 3)


def params(seeds: int = SEEDS) -> dict:
    """New parameters, drawn by NumPy: ``init`` takes longer to compile than a run."""
    rng = np.random.default_rng(1)

    def draw(x):
        scale = np.sqrt(2 / max(1, np.prod(x.shape[:-1]))) if x.ndim > 1 else 0.1
        return rng.normal(0, scale, (seeds, *x.shape)).astype(np.float32)

    return jax.tree.map(draw, jax.eval_shape(SMALL.init, jax.random.key(0)))


def pair(seeds: int = SEEDS, *, validation: int = 4) -> cell.Pair:
    """The networks, and 8 training images per class."""
    target = cell.few_shot_target(
        dataset(), 8, range(seeds), validation_per_class=validation, test=20
    )
    return cell.Pair(SMALL, params(seeds), target)


def job(steps: int = RECIPE.steps) -> jobs.Job:
    """Fine-tuning with L2-SP under DTNH."""
    recipe = dataclasses.replace(RECIPE, steps=steps)
    return pair().job(method("l2-sp/layer"), 1.0, recipe)


def kill_before(event: str, suffix: str) -> None:
    """Kills this process before it does that, an audit event, to such a path."""

    def hook(found: str, arguments: tuple) -> None:
        if found == event and any(str(x).endswith(suffix) for x in arguments):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def main(
    folder: str,
    result: str,
    layout: str = "data",
    join: bool = False,
    before: list | None = None,
    after: tuple[int, str] = (-1, ""),
    steps: int = RECIPE.steps,
) -> None:
    """Trains in ``folder``, and writes what it came to into the npz file ``result``.

    Args:
      folder, result: see above; the step from which it began is in the file too.
      layout, join: over which devices and processes.
      before: arguments of ``kill_before``.
      after: a step, and the signal that then comes: ``"SIGTERM"``, or ``"SIGKILL"``
        once the last checkpoint is complete.
      steps: updates.
    """
    jobs.PIECE_BYTES, devices.SPLIT_FROM = PIECE_BYTES, 1
    if join:
        devices.join()
    if before:
        kill_before(*before)
    shares = []

    def advanced(share: float) -> None:
        shares.append(share)
        step = round(sum(shares) * steps)
        if len(shares) == 1 or step != after[0]:
            return
        saved = Path(folder) / str((step - step % 4) // 2)
        while after[1] == "SIGKILL" and not saved.exists():
            time.sleep(0.001)
        os.kill(os.getpid(), getattr(signal, after[1]))

    over = devices.layout(layout)
    with Checkpoints(Path(folder), {"task": "stripes"}) as checkpoints:
        try:
            fitted = loop.fit(job(steps=steps), advanced, checkpoints, over)
        except Interrupted as stopped:
            print(stopped)
            sys.exit(130)
    found = jax.jit(lambda x: x, out_shardings=over.replicated)(
        flatten((fitted.params, fitted.opt_state))
    )
    if jax.process_index() == 0:
        resumed = round(shares[0] * steps)
        trace = {k: v for k, v in fitted.trace._asdict().items() if v is not None}
        np.savez(
            result, resumed=resumed, validation=fitted.validation, **trace, **found
        )


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
