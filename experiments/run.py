"""Runs the missing cells of a study. Each becomes a line of ``cells.jsonl``.

If training diverges, the cell is finished and records that. If a cell fails for another
reason, it records the error, the other cells still run, and the next run of the study
tries it again.
"""

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments import cell, cells
from experiments.errors import InputError, make_folder
from experiments.methods import PLAIN, method
from experiments.progress import Reporter
from experiments.provenance import commit
from experiments.study import Place, Setting, Study
from experiments.training.interruption import Interrupted


def run(study: Study, folder: Path, cache: Path, reporter: Reporter) -> None:
    """Runs the cells of ``study`` that are missing in ``folder``.

    Args:
      study: the study to run.
      folder: folder of ``cells.jsonl``; created if missing.
      cache: folder in which pretrained networks are kept.
      reporter: shows the progress.

    Raises:
      InputError: if a data set is unknown, missing or too small, or the folder holds
        another study.
      Interrupted: after Ctrl-C or SIGTERM while a network trains.
    """
    # First what may raise errors, before hours of work.
    make_folder(cache)
    targets = {
        name: cell.few_shot_target(
            study.images.dataset(name, cache, reporter), study.per_class, study.members,
            validation_per_class=study.validation_per_class, test=study.test,
        )
        for name in dict.fromkeys(target for _, target in study.tasks)
    }  # fmt: skip
    for source in dict.fromkeys(source for source, _ in study.tasks):
        study.images.check_source(source, cache, reporter)
    _check_batches(study, targets)
    path = folder / "cells.jsonl"
    total = len(list(study.cells()))
    done = cells.resume(path, study.settings(), total)
    version = commit()  # of the code that was loaded, whatever is committed later

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

    left_out: set[Place] = set()
    with reporter.study(sum(_work(study, x) for x in missing())):
        # The second pass uses the learning rates that plain fine-tuning chose.
        for weighted in (False, True):
            for setting in missing():
                if (setting.weight is not None) != weighted:
                    continue
                if weighted and setting.place not in rates(study, done):
                    left_out.add(setting.place)
                    continue
                name, pair = pair_of(setting.place.source, setting.place.target)
                names = {"from": name, "to": pair.target.dataset.name}
                title = f"{name} to {names['to']}: {_title(setting)}"
                with reporter.task(title, _work(study, setting)) as advanced:
                    outcome = _outcome(study, setting, pair, advanced)
                if "error" in outcome:
                    reporter.warn(f"{title}: {outcome['error']}")
                made = {**names, **outcome, "commit": version}
                done.append({"record": "cell", **setting.record(), **made})
                cells.append(path, done[-1])
    for place in sorted(left_out):
        reporter.warn(
            f"{place.source} to {place.target}, {place.optimizer}: only plain "
            "fine-tuning was run, because it gave no result at some learning rate or "
            "at all of them"
        )


def rates(study: Study, done: Iterable[Mapping[str, Any]]) -> dict[Place, float]:
    """The learning rate at which plain fine-tuning is best on validation images.

    A regularizer tried at a learning rate that suits it worse than plain fine-tuning
    would lose for that reason alone.

    Args:
      study: the study.
      done: records of its finished cells.

    Returns:
      The learning rate by place, for places where all of the study's learning rates
      were tried and at least one gave a result. Ties go to the smallest. A study
      without a list of learning rates uses those of its recipes.
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
                f"a batch of {most} images is larger than the "
                f"{target.train.shape[1]} training images of {name}"
            )


def _work(study: Study, setting: Setting) -> float:
    """The approximate cost of a cell, in images through the network and back."""
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
    except Exception as error:  # whatever it is, the other cells must still run
        return {"error": f"{type(error).__name__}: {error}"}
