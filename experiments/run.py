"""Runs the cells of a study that are missing; each is a line of ``cells.jsonl``.

A cell whose training diverges is done, and says so. One that fails for any other reason
says that, and is tried again when the study is run again; the others are still run.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments import cell, cells
from experiments.errors import InputError
from experiments.methods import PLAIN, method
from experiments.progress import Reporter
from experiments.study import Place, Setting, Study
from experiments.training.interruption import Interrupted


def run(study: Study, folder: Path, cache: Path, reporter: Reporter) -> None:
    """Runs what is missing of ``study`` in ``folder``.

    Args:
      study: what to run.
      folder: holds ``cells.jsonl``; made where it is missing.
      cache: folder in which pretrained networks are kept.
      reporter: is told how far it is.

    Raises:
      InputError: if a data set is unknown, not there or too small, or the folder holds
        another study.
      Interrupted: after Ctrl-C or SIGTERM while a network trains.
    """
    # All of them now: what is wrong is to be said before hours of work.
    targets = {
        name: cell.few_shot_target(
            study.images.dataset(name, cache, reporter), study.per_class, study.members,
            validation_per_class=study.validation_per_class, test=study.test,
        )
        for name in dict.fromkeys(target for _, target in study.tasks)
    }  # fmt: skip
    for source, _ in study.tasks:
        study.images.check_source(source)
    _check_batches(study, targets)
    path = folder / "cells.jsonl"
    total = len(list(study.cells()))
    done = cells.resume(path, dataclasses.asdict(study), total)

    @functools.lru_cache(maxsize=1)  # one source's networks at a time
    def pair_of(source: str, target: str) -> tuple[str, cell.Pair]:
        name, params = study.images.pretrained(
            source, study.pretraining, study.members, cache, reporter
        )
        return name, cell.pair(study.images.spec, params, targets[target])

    def missing() -> list[Setting]:
        """The settings without a result."""
        finished = {Setting.of(x) for x in done if "error" not in x}
        return [x for x in study.cells(rates(study, done)) if x not in finished]

    with reporter.study(sum(_work(study, x) for x in missing())):
        # The rates that plain fine-tuning chooses are those of the second half.
        for weighted in (False, True):
            for setting in missing():
                if (setting.weight is not None) != weighted:
                    continue
                if weighted and setting.place not in rates(study, done):
                    continue
                name, pair = pair_of(setting.place.source, setting.place.target)
                names = {"from": name, "to": pair.target.dataset.name}
                title = f"{name} to {names['to']}: {_title(setting)}"
                with reporter.task(title, _work(study, setting)) as advanced:
                    outcome = _outcome(study, setting, pair, advanced)
                done.append({"record": "cell", **setting.record(), **names, **outcome})
                cells.append(path, done[-1])


def rates(study: Study, done: Iterable[Mapping[str, Any]]) -> dict[Place, float]:
    """The learning rate at which plain fine-tuning is best on validation images.

    A regularizer that is tried at a rate that suits it worse than plain fine-tuning
    would lose for that alone.

    Args:
      study: what is planned.
      done: records of its cells.

    Returns:
      By place, where all of the study's rates were tried and one gave a result; of
      equal ones the smallest. A study with one rate has nothing to choose.
    """
    if not study.learning_rates:
        return {setting.place: setting.learning_rate for setting in study.cells()}
    tried: dict[Place, dict[float, float]] = {}
    for record in done:
        if record["method"] == PLAIN and "error" not in record:
            setting = Setting.of(record)
            mean = np.mean(record["validation"]) if "validation" in record else -np.inf
            tried.setdefault(setting.place, {})[setting.learning_rate] = float(mean)
    return {
        place: max(sorted(means), key=means.__getitem__)
        for place, means in tried.items()
        if len(means) == len(study.learning_rates) and max(means.values()) > -np.inf
    }


def _check_batches(study: Study, targets: dict[str, cell.Target]) -> None:
    most = max(recipe.batch_size for recipe in study.recipes)
    for name, target in targets.items():
        if most > target.train.shape[1]:
            raise InputError(
                f"a batch of {most} images does not fit into the "
                f"{target.train.shape[1]} training images of {name}"
            )


def _work(study: Study, setting: Setting) -> float:
    """About how long a cell takes, in images that go through the network and back."""
    recipe = study.recipe(setting)
    seen = recipe.steps * recipe.batch_size
    return seen * (1 + method(setting.method).distills) + (study.test or 1000) / 3


def _title(setting: Setting) -> str:
    trial = f"learning rate {setting.learning_rate:g}"
    if setting.weight is not None:
        trial = f"λ = {setting.weight:g}"
    place = setting.place
    return (
        f"{method(setting.method).label}, {trial}, {place.optimizer}, "
        f"batches of {place.batch_size}"
    )


def _outcome(study, setting, pair, advanced) -> dict[str, Any]:
    recipe = study.recipe(setting)
    try:
        job = pair.job(method(setting.method), setting.weight, recipe)
        return cell.train(job, pair.target, advanced)
    except FloatingPointError as error:
        return {"diverged": str(error)}
    except (InputError, Interrupted):
        raise
    except Exception as error:  # whatever it is, the other cells are not to be lost
        return {"error": f"{type(error).__name__}: {error}"}
