"""What the demo found: its rows, and the file ``results.jsonl``.

Every line of that file is one JSON object; ``"record"`` says what it is: ``"about"``
(one, first: versions, device, configuration), ``"run"`` (one a seed and cell),
``"summary"`` (one a cell: the numbers that the table prints) and ``"trace"`` (one a
cell: training loss and cosines of every step, as the mean over seeds).
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.finetune import Cell
from experiments.statistics import Estimate, estimate


@dataclasses.dataclass(frozen=True)
class Summary:
    """One row of the table; accuracies and differences in points of a hundred.

    Attributes:
      source: name of what the networks were pretrained on.
      method: key in ``METHODS``.
      weight: λ, or ``None``.
      accuracy: on the held-out images.
      gain: paired difference to the method's baseline at the same λ; ``None`` where
        there is no baseline.
      conflict_rate: share of steps and groups with a negative cosine, or ``None``.
      mean_cosine: over seeds, steps and groups, -1..1, or ``None``.
    """

    source: str
    method: str
    weight: float | None
    accuracy: Estimate
    gain: Estimate | None
    conflict_rate: float | None
    mean_cosine: float | None


def baseline(cell: Cell, cells: Sequence[Cell]) -> Cell | None:
    """The cell that ``cell`` is compared with, if it is among ``cells``."""
    wanted = (cell.source, cell.rule.baseline, cell.weight)
    same = (
        other for other in cells if (other.source, other.method, other.weight) == wanted
    )
    return next(same, None)


def summarize(cell: Cell, cells: Sequence[Cell]) -> Summary:
    """The row of ``cell``; its baseline is looked for among ``cells``."""
    other = baseline(cell, cells)
    measured = cell.trace.cosine is not None
    return Summary(
        cell.source,
        cell.method,
        cell.weight,
        estimate(100 * cell.accuracy),
        estimate(100 * (cell.accuracy - other.accuracy)) if other else None,
        float(cell.trace.conflict.mean()) if measured else None,
        float(cell.trace.cosine.mean()) if measured else None,
    )


def write(path: Path, header: dict[str, Any], cells: Sequence[Cell]) -> None:
    """Writes ``results.jsonl``."""
    records = [{"record": "about", **header}]
    for cell in cells:
        name = {"source": cell.source, "method": cell.method, "weight": cell.weight}
        for seed, share in enumerate(cell.accuracy):
            run = {"seed": seed, "accuracy": round(100 * float(share), 4)}
            run["final_loss"] = float(cell.trace.loss[seed, -1])
            if cell.trace.cosine is not None:
                run["conflict_rate"] = float(cell.trace.conflict[seed].mean())
                run["mean_cosine"] = float(cell.trace.cosine[seed].mean())
            records.append({"record": "run", **name, **run})
    for cell in cells:
        summary = dataclasses.asdict(summarize(cell, cells))
        records.append({"record": "summary", **summary, "seconds": cell.seconds})
    for cell in cells:
        records.append(
            {
                "record": "trace",
                "source": cell.source,
                "method": cell.method,
                "weight": cell.weight,
                "loss": _rounded(cell.trace.loss.mean(axis=0)),
                "groups": cell.groups,
                "cosine": None
                if cell.trace.cosine is None
                else _rounded(cell.trace.cosine.mean(axis=0)),
            }
        )
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a ``results.jsonl``, one dict a line."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def _rounded(values: np.ndarray) -> list:
    return np.round(values.astype(np.float64), 5).tolist()
