"""The grids that can be run by name, one a file."""

from experiments.configs import delta, photographs, small
from experiments.grid.config import Grid

CONFIGS: dict[str, Grid] = {
    "small": small.GRID,
    "delta": delta.GRID,
    "photographs": photographs.GRID,
}
