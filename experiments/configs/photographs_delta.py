"""DELTA on Caltech-101 and CIFAR-10.

Command: ``python -m experiments run photographs-delta``, with the archives that
``photographs`` needs. Expected: about 50 minutes on two otherwise idle cores. Result:
``experiments/results/photographs-delta``.
"""

import dataclasses

from experiments.configs import photographs

STUDY = dataclasses.replace(
    photographs.STUDY,
    title="DELTA with photographs",
    tasks=photographs.STUDY.tasks[:4],
    methods=("plain", "delta/sum", "delta/steady", "delta+l2-sp+l2/steady"),
)
