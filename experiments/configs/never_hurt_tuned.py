"""Is the steady rule, untuned, as good as a tuned regularizer?

Command: ``python -m experiments run never-hurt-tuned``. Expected: about 20 minutes on
two cores. Result: ``experiments/results/never-hurt-tuned``.

Plain fine-tuning, a frozen body and the plain sums have four trials each, and three
validation images per class choose one of them. The trials are learning rates for
methods without a regularizer, and values of λ for the sums, at the learning rate that
was best for plain fine-tuning. The steady rule has one trial, at its default λ.
"""

import dataclasses

from experiments.configs import never_hurt

_SGD, _ADAM = never_hurt.STUDY.recipes[:2]

STUDY = dataclasses.replace(
    never_hurt.STUDY,
    title="The steady rule and tuned regularizers",
    methods=(
        *("plain", "frozen"),
        *("l2-sp/sum", "kd/sum", "l2/sum"),
        *("l2-sp+l2/steady", "kd+l2-sp+l2/steady"),
    ),
    weights=(0.001, 0.01, 0.1, 1.0),
    learning_rates=(0.001, 0.003, 0.01, 0.03),
    recipes=(_SGD, _ADAM),
    validation_per_class=3,
)
