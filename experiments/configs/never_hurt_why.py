"""Why does it help to be pulled to features that mean nothing?

Command: ``python -m experiments run never-hurt-why``. Expected: five minutes on two
cores. Result: ``experiments/results/never-hurt-why``.

Two explanations: even networks that learned random labels, or nothing, hold something
that is worth keeping; or any steady pull does, as it holds down what few images leave
undetermined. L2-SP pulls to the network itself, "shuffled" to the same numbers in
another order, which compute something else but are as large; weight decay to zero; and
"random" has no aim at all.
"""

import dataclasses

from experiments.configs import never_hurt

STUDY = dataclasses.replace(
    never_hurt.STUDY,
    title="Pulls to something, to nothing, and nowhere",
    methods=(
        "plain",
        *(f"{aim}/steady" for aim in ("l2-sp", "shuffled", "l2", "random")),
        *("l2-sp+l2/steady", "shuffled+l2/steady"),
    ),
    weights=(100.0,),
    recipes=never_hurt.STUDY.recipes[:2],
)
