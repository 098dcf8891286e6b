"""How far every rule lies from plain fine-tuning, on the same seeds.

Reads nothing but the records of ``cells.jsonl``, so that a study half done can be
reported too.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from experiments.statistics import Estimate, estimate


@dataclasses.dataclass(frozen=True)
class Difference:
    """One rule at one λ, less plain fine-tuning on the same seeds, in points.

    Attributes:
      pair: group, name of the source, target and optimizer.
      rule: key in ``METHODS``.
      weight: λ.
      gain: mean and standard error over seeds; ``None`` where training diverged.
    """

    pair: tuple[str, str, str, str]
    rule: str
    weight: float
    gain: Estimate | None

    def below(self, errors: float) -> bool:
        """Whether it lies more than so many standard errors below plain."""
        if self.gain is None:
            return True
        return self.gain.mean < -errors * self.gain.standard_error

    def above(self, errors: float) -> bool:
        """Whether it lies more than so many standard errors above plain."""
        if self.gain is None:
            return False
        return self.gain.mean > errors * self.gain.standard_error


def differences(records: Iterable[dict[str, Any]]) -> list[Difference]:
    """The paired differences, in the order of the records."""
    cells = [record for record in records if record["record"] == "cell"]
    plain = {pair_of(cell): cell for cell in cells if cell["method"] == "plain"}
    found = []
    for cell in cells:
        if cell["method"] == "plain":
            continue
        gain = None
        if "accuracy" in cell:
            base = np.asarray(plain[pair_of(cell)]["accuracy"])
            gain = estimate(np.asarray(cell["accuracy"]) - base)
        found.append(Difference(pair_of(cell), cell["method"], cell["weight"], gain))
    return found


def pair_of(cell: dict[str, Any]) -> tuple[str, str, str, str]:
    return cell["group"], cell["from"], cell["target"], cell["optimizer"]
