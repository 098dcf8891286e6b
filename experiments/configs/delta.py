"""DELTA and its forms on the pairs of `small`, at its smallest and its full batch.

Command: ``python -m experiments grid delta``, then
``python -m experiments report runs/grid/delta``. Expected: about 15 minutes on two
cores (180 cells; projected from single cells, not yet run as a whole).
"""

import dataclasses

from experiments.configs import small
from experiments.methods import family

GRID = dataclasses.replace(
    small.GRID, methods=("plain", *family("delta")), batch_sizes=(10, 100)
)
