"""Which trial stands for a method: the best on validation images, never on test."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from experiments.grid.plan import Key, Place, key_of

Records = dict[Key, dict[str, Any]]


def latest(records: Iterable[dict[str, Any]]) -> Records:
    """By cell, the last record: a cell that failed may have been run again."""
    return {key_of(record): record for record in records if record["record"] == "cell"}


def succeeded(record: dict[str, Any]) -> bool:
    return "accuracy" in record


def best_trials(records: Records) -> dict[tuple[Place, str], dict[str, Any]]:
    """For each place and method, the trial of the highest mean validation accuracy.

    The mean is over seeds, at the step that the trial itself has chosen by it. Of equal
    trials the first in the plan's order counts: the smallest λ or learning rate. A
    method none of whose trials is done and has succeeded is left out.
    """
    best: dict[tuple[Place, str], dict[str, Any]] = {}
    for key, record in records.items():
        if not succeeded(record):
            continue
        at = (key.place, key.method)
        if at not in best or _rank(record) > _rank(best[at]):
            best[at] = record
    return best


def rates(records: Records) -> dict[Place, float]:
    """The learning rate that plain fine-tuning chose, at each place where it is done.

    A regularizer that is tried at a rate that suits it worse than plain fine-tuning
    would lose for that alone.
    """
    chosen = best_trials(
        {key: record for key, record in records.items() if key.method == "plain"}
    )
    return {place: record["learning_rate"] for (place, _), record in chosen.items()}


def _rank(record: dict[str, Any]) -> tuple[float, float, float]:
    validation = float(np.mean(record["validation"]))
    return validation, -(record["weight"] or 0.0), -record["learning_rate"]
