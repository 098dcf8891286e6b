"""The pairs of ``never-hurt`` with 20 training images per class instead of 3.

Command: ``python -m experiments run never-hurt-more-images``. Expected: about half an
hour on two cores. Result: ``experiments/results/never-hurt-more-images``.
"""

import dataclasses

from experiments.configs import never_hurt

STUDY = dataclasses.replace(
    never_hurt.STUDY,
    title="The same with 20 images per class",
    methods=(
        *("plain", "frozen"),
        *("l2-sp/sum", "kd/sum", "l2/sum"),
        *("l2-sp+l2/steady", "kd+l2-sp+l2/steady"),
    ),
    weights=(0.01, 1.0, 100.0),
    recipes=tuple(
        dataclasses.replace(recipe, steps=400, batch_size=20)
        for recipe in never_hurt.STUDY.recipes[:2]
    ),
    per_class=20,
)
