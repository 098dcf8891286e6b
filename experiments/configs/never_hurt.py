"""Is any rule never below plain fine-tuning? The defaults were chosen on these pairs.

Command: ``python -m experiments run never-hurt``. Expected: half an hour on two cores.
Result: ``experiments/results/never-hurt``.

The sources range from related to corrupted, and the weights from 0.01 to 1000. There
are three optimizers, and three training images per class. ``never-hurt-parts`` ablates
the steady rule on the same pairs. ``never-hurt-confirm`` has pairs that were not used
to choose the defaults.
"""

from experiments.recipe import Recipe
from experiments.sources import SmallImages
from experiments.study import Study

# A related task, another task, permuted pixels, and random labels.
KINDS = ("", ":rotations", ":permuted-pixels", ":random-labels")

STUDY = Study(
    title="Does any rule never fall below plain fine-tuning?",
    images=SmallImages(side=8),
    tasks=(*((f"mnist{kind}", "digits") for kind in KINDS), ("random", "digits")),
    methods=(
        *("plain", "frozen"),
        *("l2-sp/sum", "l2-sp/global", "l2-sp/layer", "l2-sp/bloop", "l2-sp/steady"),
        *("kd/sum", "kd/layer", "kd/steady"),
        *("l2/sum", "l2/layer", "l2/steady"),
        *("l2-sp+l2/sum", "l2-sp+l2/steady", "kd+l2-sp+l2/steady"),
    ),
    weights=(0.01, 0.1, 1.0, 1000.0),
    recipes=(
        Recipe(200, 10, learning_rate=0.01, optimizer="sgd"),
        Recipe(200, 10, learning_rate=0.003, optimizer="adam"),
        Recipe(200, 10, learning_rate=0.003, optimizer="adamw"),
    ),
    pretraining=Recipe(1000, batch_size=100, learning_rate=3e-3, optimizer="adam"),
    seeds=10,
    per_class=3,
)
