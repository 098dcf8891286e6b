"""What the demo found: its summaries, and the file ``results.jsonl``.

Every line of that file is one JSON object; ``"record"`` says what it is: ``"about"``
(one, first: versions, commit, device, configuration), ``"run"`` (one per seed and
cell), ``"summary"`` (one per cell: the numbers that the table prints) and ``"trace"``
(one per cell: training loss and cosines of every step, as the mean over seeds). A cell
that diverged has a summary alone.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.demo.compared import PLAIN
from experiments.finetune import Cell
from experiments.statistics import Estimate, estimate
from experiments.train import Trace


@dataclasses.dataclass(frozen=True)
class Summary:
    """What one cell came to; accuracies and differences in points of a hundred.

    Attributes:
      source: name of what the networks were pretrained on.
      method: key in ``METHODS``.
      weight: λ, or ``None``.
      accuracy: on the held-out images; ``None`` where training diverged.
      gain: paired difference to plain fine-tuning from the same source; ``None`` for
        that itself, and where training diverged.
      conflict_rate: share of steps and groups with a negative cosine, or ``None``.
      mean_cosine: over seeds, steps and groups, -1..1, or ``None``.
    """

    source: str
    method: str
    weight: float | None
    accuracy: Estimate | None
    gain: Estimate | None
    conflict_rate: float | None
    mean_cosine: float | None


def diverged(source: str, method: str, weight: float, seeds: int) -> Cell:
    """The cell of a run in which the loss of a seed became infinite or NaN."""
    nothing = Trace(np.zeros((seeds, 0)), None, None)
    return Cell(source, method, weight, np.full(seeds, np.nan), (), nothing, 0.0)


def has_diverged(cell: Cell) -> bool:
    """Whether ``cell`` was made by ``diverged``."""
    return bool(np.isnan(cell.accuracy).all())


def summarize(cell: Cell, cells: Sequence[Cell]) -> Summary:
    """The summary of ``cell``; plain fine-tuning is looked for among ``cells``."""
    name = cell.source, cell.method, cell.weight
    if has_diverged(cell):
        return Summary(*name, None, None, None, None)
    plain = next(
        other for other in cells if (other.source, other.method) == (cell.source, PLAIN)
    )
    measured = cell.trace.cosine is not None
    return Summary(
        *name,
        estimate(100 * cell.accuracy),
        None if cell is plain else estimate(100 * (cell.accuracy - plain.accuracy)),
        float(cell.trace.conflict.mean()) if measured else None,
        float(cell.trace.cosine.mean()) if measured else None,
    )


def write(path: Path, header: dict[str, Any], cells: Sequence[Cell]) -> None:
    """Writes ``results.jsonl``."""
    records = [{"record": "about", **header}]
    finished = [cell for cell in cells if not has_diverged(cell)]
    for cell in finished:
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
    for cell in finished:
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
    """The records of a ``results.jsonl``, one dict per line."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def _rounded(values: np.ndarray) -> list:
    return np.round(values.astype(np.float64), 4).tolist()
