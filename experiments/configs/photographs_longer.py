"""Tiny ImageNet from a corrupted source, with 1,000 steps instead of 300.

Command: ``python -m experiments run photographs-longer``, with the archives that
``photographs`` needs. Expected: a few minutes on a GPU, about an hour on two otherwise
idle cores. Result: ``experiments/results/photographs-longer``.
"""

import dataclasses

from experiments.configs import photographs

STUDY = dataclasses.replace(
    photographs.STUDY,
    title="Tiny ImageNet with more steps",
    tasks=(("cifar10:random-labels", "tiny-imagenet"),),
    methods=(
        "plain",
        *("l2-sp/sum", "kd/sum", "l2/sum"),
        *("l2-sp/steady", "kd/steady", "l2/steady"),
        *("l2-sp+l2/steady", "kd+l2-sp+l2/steady"),
    ),
    recipes=(dataclasses.replace(photographs.STUDY.recipes[0], steps=1000),),
)
