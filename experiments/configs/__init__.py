"""The grids that can be run by name, one subject a file."""

from experiments.configs import (
    delta,
    paper_caltech256,
    paper_cifar10,
    paper_indoor67,
    photographs,
    small,
)
from experiments.grid.config import Grid

CONFIGS: dict[str, Grid] = {
    "small": small.GRID,
    "delta": delta.GRID,
    "photographs": photographs.GRID,
    "paper-caltech256-30": paper_caltech256.GRID_30,
    "paper-caltech256-60": paper_caltech256.GRID_60,
    "paper-indoor67": paper_indoor67.GRID,
    "paper-cifar10": paper_cifar10.GRID,
}
