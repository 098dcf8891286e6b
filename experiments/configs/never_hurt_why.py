"""Why does a pull to meaningless features help?

Command: ``python -m experiments run never-hurt-why``. Expected: five minutes on two
cores. Result: ``experiments/results/never-hurt-why``.

There are two explanations. Even networks that learned random labels, or nothing, may
hold something worth keeping. Or any steady pull helps, because it shrinks what a few
images leave undetermined. L2-SP pulls to the pretrained parameters. "shuffled" pulls to
the same values in another order, which have the same size but compute something else.
Weight decay pulls to zero, and "random" has no target at all.
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
