"""Means over seeds, their uncertainty, and how to write both."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

# Significance level of intervals and tests.
LEVEL = 0.05


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Mean and standard error over ``seeds``, in the unit of the values."""

    mean: float
    standard_error: float
    seeds: int

    def __str__(self) -> str:
        return f"{number(self.mean)} ± {self.standard_error:.1f}"

    @property
    def percent(self) -> str:
        """The mean as a level, without the sign of a difference."""
        return f"{self.mean:.1f} ± {self.standard_error:.1f} %"

    @property
    def half_width(self) -> float:
        """Half the width of the 95 % t-interval around the mean."""
        return self.standard_error * float(stats.t.isf(LEVEL / 2, self.seeds - 1))

    @property
    def verdict(self) -> str:
        """``"▲"`` if the interval is above 0, ``"▼"`` if it is below, else ``"="``."""
        if abs(self.mean) <= self.half_width:
            return "="
        return "▲" if self.mean > 0 else "▼"

    @property
    def t(self) -> float:
        """The mean in standard errors; infinite if only the standard error is 0."""
        if self.standard_error == 0:
            return math.copysign(math.inf, self.mean) if self.mean else 0.0
        return self.mean / self.standard_error

    @property
    def p_below(self) -> float:
        """The p-value of the one-sided t-test: small if the mean is below 0."""
        return float(stats.t.cdf(self.t, self.seeds - 1))


def estimate(values: Sequence[float] | np.ndarray) -> Estimate:
    """Mean and standard error of ``[S]`` independent values, ``S >= 2``."""
    values = np.round(values, 9)  # equal differences must compare equal
    error = values.std(ddof=1) / np.sqrt(values.size)
    return Estimate(float(values.mean()), float(error), values.size)


def difference(values: Sequence[float], others: Sequence[float]) -> Estimate:
    """The estimate of ``values`` minus ``others``, ``[S]`` each, paired by seed."""
    return estimate(np.subtract(values, others))


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values for multiple testing, keeping their order.

    If the tests with corrected p-values up to ``LEVEL`` are rejected, the probability
    of any false rejection is at most ``LEVEL``, however the tests depend on each other
    (Holm, 1979).
    """
    order = np.argsort(p_values)
    scaled = np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return corrected.tolist()


def number(value: float | np.floating, digits: int = 1) -> str:
    """Formats a number with its sign, a true minus; ``+0.0`` if it rounds to zero."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−" if text.strip("-0.") else "+")
