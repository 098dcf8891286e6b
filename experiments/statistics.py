"""Means over seeds and how sure they are."""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its standard error, in the unit of what was averaged."""

    mean: float
    standard_error: float


def estimate(values: np.ndarray) -> Estimate:
    """Mean and standard error of ``[S]`` independent values, ``S >= 2``."""
    values = np.asarray(values, np.float64)
    return Estimate(
        float(values.mean()), float(values.std(ddof=1) / math.sqrt(values.size))
    )
