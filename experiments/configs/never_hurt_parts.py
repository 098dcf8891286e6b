"""An ablation of the steady rule: one part changed or left out at a time.

Command: ``python -m experiments run never-hurt-parts``. Expected: about ten minutes on
two cores. Result: ``experiments/results/never-hurt-parts``.

Uses the pairs of ``never-hurt``. Mixing several regularizers is also a part of the
rule; single regularizers are in ``never-hurt``. The random direction is a control: a
new one in each step, under the same rule.
"""

import dataclasses

from experiments.configs import never_hurt
from experiments.methods import RULES

_STEADY = [name for name in RULES if name.startswith("steady")]

STUDY = dataclasses.replace(
    never_hurt.STUDY,
    title="The parts of the steady rule",
    methods=(
        "plain",
        *(f"l2-sp+l2/{rule}" for rule in _STEADY),
        *(f"kd+l2-sp+l2/{rule}" for rule in _STEADY),
        *("random/steady", "random/sum"),
    ),
    weights=(1.0,),
    recipes=never_hurt.STUDY.recipes[:2],
)
