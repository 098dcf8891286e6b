"""Is any rule never below plain fine-tuning?

Command: ``python -m experiments run never-hurt``. Expected: not run in this form yet;
its predecessor took 40 minutes on two cores. Result: ``experiments/results/never-hurt``
is that predecessor's, of dtnh_jax 0.1.0.

Sources from related to corrupted, weights over four decades and two optimizers. Rules
are chosen on the pairs to digits; those to MNIST 5-9 confirm them.
"""

from experiments.recipe import Recipe
from experiments.sources import SmallImages
from experiments.study import Study

# A related task, another task, permuted pixels, and labels without meaning.
KINDS = ("", ":rotations", ":permuted-pixels", ":random-labels")
SELECT = (*((f"mnist{kind}", "digits") for kind in KINDS), ("random", "digits"))
CONFIRM = tuple((f"mnist-low{kind}", "mnist-high") for kind in KINDS)

STUDY = Study(
    title="Does any rule never fall below plain fine-tuning?",
    images=SmallImages(side=8),
    tasks=(*SELECT, *CONFIRM),
    methods=(
        "plain",
        *("l2-sp/sum", "l2-sp/global", "l2-sp/layer", "l2-sp/drop-capped"),
        *("kd/sum", "kd/layer", "l2/sum"),
        *("l2-sp+l2/steady", "kd+l2-sp+l2/steady"),
    ),
    weights=(0.01, 0.1, 1.0, 10.0, 100.0),
    recipes=(
        Recipe(200, 10, learning_rate=0.01, optimizer="sgd"),
        Recipe(200, 10, learning_rate=0.003, optimizer="adam"),
    ),
    pretraining=Recipe(1000, batch_size=100, learning_rate=3e-3, optimizer="adam"),
    seeds=10,
    per_class=3,
)
