"""The same questions on pairs that were not used to choose the defaults.

Command: ``python -m experiments run never-hurt-confirm``. Expected: about half an hour
on two cores. Result: ``experiments/results/never-hurt-confirm``.

Other digits, clothing and animals, with new seeds. Run once, with the defaults chosen
by ``never-hurt`` and ``never-hurt-parts``.
"""

import dataclasses

from experiments.configs import never_hurt

STUDY = dataclasses.replace(
    never_hurt.STUDY,
    title="Does the steady rule never fall below plain fine-tuning?",
    tasks=(
        ("mnist-low", "mnist-high"),
        ("fashion-mnist", "mnist-high"),
        ("animals:rotations", "fashion-mnist"),
        ("fashion-mnist:permuted-pixels", "mnist"),
        ("mnist:random-labels", "fashion-mnist"),
        ("animals:random-labels", "mnist"),
        ("random", "fashion-mnist"),
    ),
    methods=(
        *("plain", "frozen"),
        *("l2-sp/sum", "l2-sp/layer", "l2-sp/steady"),
        *("kd/sum", "kd/layer", "kd/steady"),
        *("l2/sum", "l2/layer", "l2/steady"),
        *("l2-sp+l2/steady", "kd+l2-sp+l2/steady"),
    ),
    weights=(0.01, 0.1, 1.0, 100.0),
    first_seed=200,
)
