"""Runs the cells of a grid that are missing; each is a line of ``cells.jsonl`` at once.

A cell whose training diverges is done, and says so. One that fails for any other reason
says that, and is tried again when the grid is run again; the others go on.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import cells
from experiments.errors import InputError
from experiments.finetune import (
    Cell,
    Target,
    channel_importance,
    few_shot_target,
    finetune,
)
from experiments.grid import choose, plan
from experiments.grid.config import Grid
from experiments.methods import METHODS
from experiments.networks import Params
from experiments.progress import Reporter

# To how many points the curves of a cell are thinned, each the mean of its steps.
POINTS = 40


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """The networks of one source, and one target."""

    grid: Grid
    source: str
    pretrained: Params
    target: Target

    @functools.cached_property
    def channel_weights(self) -> dict[str, jax.Array]:
        return channel_importance(self.grid.architecture, self.pretrained, self.target)


def run(grid: Grid, folder: Path, cache: Path, reporter: Reporter) -> None:
    """Runs what is missing of ``grid`` in ``folder``.

    Args:
      grid: what to run.
      folder: holds ``cells.jsonl``; made where it is missing.
      cache: folder in which pretrained networks are kept.
      reporter: is told how far it is.

    Raises:
      InputError: if a data set is unknown, not there or too small, or the folder holds
        another grid.
    """
    # All of them now: what is wrong is to be said before hours of work.
    targets = {
        name: few_shot_target(
            grid.dataset(name, cache, reporter), grid.per_class, grid.seeds,
            validation_per_class=grid.validation_per_class or grid.per_class,
            test=grid.test,
        )
        for name in dict.fromkeys(target for _, target in grid.pairs)
    }  # fmt: skip
    for source, _ in grid.pairs:
        grid.check_source(source)
    _check_batches(grid, targets)
    path = folder / "cells.jsonl"
    config = dataclasses.asdict(grid)
    records = choose.latest(cells.resume(path, config))

    @functools.lru_cache(maxsize=1)
    def pair_of(source: str, target: str) -> Pair:
        return Pair(grid, *grid.networks(source, cache, reporter), targets[target])

    total = sum(_work(grid, key) for key in _missing(config, records))
    with reporter.study(total):
        # The rates that plain fine-tuning chooses are those of the second half.
        for weighted in (False, True):
            for key in _missing(config, records):
                if (key.weight is not None) != weighted:
                    continue
                pair = pair_of(key.source, key.target)
                with reporter.task(_title(pair, key), _work(grid, key)) as advanced:
                    outcome = _outcome(pair, key, advanced)
                names = {"from": pair.source, "to": pair.target.dataset.name}
                record = {"record": "cell", **dataclasses.asdict(key), **names}
                records[key] = {**record, **outcome}
                cells.append(path, records[key])


def _missing(config: dict[str, Any], records: choose.Records) -> list[plan.Key]:
    """The cells without a result, as far as their learning rates are known."""
    return [
        key
        for key in plan.cells(config, choose.rates(records))
        if "error" in records.get(key, {"error": "not run"})
    ]


def _check_batches(grid: Grid, targets: dict[str, Target]) -> None:
    for name, target in targets.items():
        images = target.train.shape[1]
        if max(grid.batch_sizes) > images:
            raise InputError(
                f"a batch of {max(grid.batch_sizes)} images does not fit into the "
                f"{images} training images of {name}"
            )


def _work(grid: Grid, key: plan.Key) -> float:
    """About how long a cell takes, in images that go through the network and back."""
    share_forward = 1 / 3
    seen = grid.recipe.steps * key.batch_size * (1 + METHODS[key.method].distills)
    return seen + share_forward * grid.test


def _title(pair: Pair, key: plan.Key) -> str:
    trial = f"learning rate {key.learning_rate:g}"
    if key.weight is not None:
        trial = f"λ = {key.weight:g}"
    return (
        f"{pair.source} to {pair.target.dataset.name}, batches of {key.batch_size}: "
        f"{METHODS[key.method].label}, {trial}"
    )


def _outcome(pair: Pair, key: plan.Key, advanced) -> dict[str, Any]:
    recipe = dataclasses.replace(
        pair.grid.recipe, batch_size=key.batch_size, learning_rate=key.learning_rate
    )
    weighs_channels = METHODS[key.method].towards == "channels"
    try:
        return summary(
            finetune(
                pair.grid.architecture, pair.source, pair.pretrained, key.method,
                key.weight, recipe, pair.target, advanced,
                pair.channel_weights if weighs_channels else None,
            )
        )  # fmt: skip
    except FloatingPointError as error:
        return {"diverged": str(error)}
    except Exception as error:  # whatever it is, the other cells are not to be lost
        return {"error": f"{type(error).__name__}: {error}"}


def summary(cell: Cell) -> dict[str, Any]:
    """What is kept of a cell, accuracies in percent.

    ``accuracy`` (on test images) and ``validation`` are by seed, at ``step``;
    ``validation_curve`` is the mean over seeds at each checkpoint; ``loss`` (in nats)
    and ``cosine`` (by group) are means over seeds and neighbouring steps.
    """
    assert cell.validation is not None
    curve = cell.validation.mean(axis=1)
    outcome = {
        "step": cell.step,
        "accuracy": _rounded(100 * cell.accuracy),
        "validation": _rounded(100 * cell.validation[curve.argmax()]),
        "validation_curve": _rounded(100 * curve),
        "loss": _rounded(_thinned(cell.trace.loss)),
        "seconds": round(cell.seconds, 2),
    }
    if cell.trace.cosine is not None:
        outcome["groups"] = list(cell.groups)
        outcome["cosine"] = _rounded(_thinned(cell.trace.cosine))
        outcome["conflict_rate"] = round(float(cell.trace.conflict.mean()), 4)
    return outcome


def _thinned(values: np.ndarray) -> np.ndarray:
    """From ``[S, T, ...]`` to the mean over seeds, in ``POINTS`` parts of the steps."""
    steps = values.mean(axis=0)
    parts = np.array_split(steps, min(POINTS, len(steps)))
    return np.stack([part.mean(axis=0) for part in parts])


def _rounded(values: np.ndarray) -> list:
    return np.round(np.asarray(values, np.float64), 4).tolist()
