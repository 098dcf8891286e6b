"""How far one method lies above another, on the same seeds."""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from scipy import stats

from experiments.grid.plan import Place
from experiments.methods import METHODS, REGULARIZERS
from experiments.statistics import estimate

Verdict = Literal["above", "equal", "below"]
CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Difference:
    """A paired difference in test accuracy, in points.

    Attributes:
      mean: over seeds.
      half_width: of the 95 % t-interval around it.
      wins: seeds in which it is positive.
      seeds: how many there are.
    """

    mean: float
    half_width: float
    wins: int
    seeds: int

    @property
    def verdict(self) -> Verdict:
        """On which side of zero the interval lies; "equal" where it covers zero."""
        if abs(self.mean) <= self.half_width:
            return "equal"
        return "above" if self.mean > 0 else "below"


def difference(values: Sequence[float], others: Sequence[float]) -> Difference:
    """Of accuracies by seed, both in percent."""
    gains = np.asarray(values, np.float64) - np.asarray(others, np.float64)
    found = estimate(gains)
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, gains.size - 1)
    half_width = float(quantile) * found.standard_error
    if math.isclose(half_width, 0, abs_tol=1e-9):
        half_width = 0.0
    return Difference(found.mean, half_width, int((gains > 0).sum()), gains.size)


Best = Mapping[tuple[Place, str], Mapping[str, Any]]


def between(best: Best, place: Place, name: str, other: str) -> Difference | None:
    """How far ``name`` lies above ``other`` at one place, if both are there."""
    if (place, name) not in best or (place, other) not in best:
        return None
    accuracies = (best[place, each]["accuracy"] for each in (name, other))
    return difference(*accuracies)


@dataclasses.dataclass(frozen=True)
class Tally:
    """In how many places one method is above, equal to and below another."""

    name: str
    other: str
    counts: Counter[Verdict]


def tallies(best: Best, methods: Sequence[str]) -> list[Tally]:
    """Each form of DTNH against its regularizer; these and all regularizers to plain.

    Places in which one of the two is missing do not count.
    """
    places = dict.fromkeys(place for place, _ in best)
    found = []
    for name in methods:
        forms_of = METHODS[name].baseline
        others = [forms_of] if forms_of in REGULARIZERS else []
        others += ["plain"] if METHODS[name].towards else []
        for other in others:
            gaps = (between(best, place, name, other) for place in places)
            counts: Counter[Verdict] = Counter(gap.verdict for gap in gaps if gap)
            found.append(Tally(name, other, counts))
    return found


def gains(best: Best, name: str) -> dict[int, float]:
    """By batch size, how far a form lies above its regularizer: the mean over pairs."""
    baseline = METHODS[name].baseline
    by_size: dict[int, list[float]] = {}
    for place in dict.fromkeys(place for place, _ in best):
        gap = between(best, place, name, baseline) if baseline else None
        if gap is not None:
            by_size.setdefault(place.batch_size, []).append(gap.mean)
    return {size: float(np.mean(means)) for size, means in by_size.items()}
