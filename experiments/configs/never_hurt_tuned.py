"""Is the steady rule, untuned, as good as a tuned regularizer?

Command: ``python -m experiments run never-hurt-tuned``. Expected: about 20 minutes on
two cores. Result: ``experiments/results/never-hurt-tuned``.

Every method has four trials, and three validation images per class choose one of them.
The trials are learning rates for plain fine-tuning, and values of λ for the others, at
the learning rate that was best for plain fine-tuning. The default λ of the steady rule
is 1: its column shows the effect of tuning.
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
