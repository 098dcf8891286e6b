"""DELTA on CIFAR-10, where distillation hurts most.

Command: ``python -m experiments run photographs-delta``, with the archives that
``photographs`` needs. Expected: about 20 minutes on two otherwise idle cores. Result:
``experiments/results/photographs-delta``.
"""

import dataclasses

from experiments.configs import photographs

STUDY = dataclasses.replace(
    photographs.STUDY,
    title="DELTA with photographs",
    tasks=(("imagenet", "cifar10"), ("caltech101:random-labels", "cifar10")),
    methods=("plain", "delta/sum", "delta/steady", "delta+l2-sp+l2/steady"),
)
