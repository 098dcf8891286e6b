"""DELTA and its forms on the pairs of `small`, at its smallest and its full batch.

Command: ``python -m experiments run delta``. Expected: about 20 minutes on two cores
(180 cells; projected from single cells, not run as a whole yet). Result: none yet.
"""

import dataclasses

from experiments.configs import small

_RULES = "sum", "global", "layer", "drop", "drop-capped"

STUDY = dataclasses.replace(
    small.STUDY,
    title="DELTA on small images",
    methods=("plain", *(f"delta/{rule}" for rule in _RULES)),
    recipes=small.STUDY.recipes[::2],
)
