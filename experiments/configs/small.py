"""The paper's questions on small grey images and a small network, on a CPU.

Command: ``python -m experiments run small``. Expected: 585 cells took 2.4 hours, beside
other work on two cores. Result: ``experiments/results/small``, of dtnh_jax 0.1.0.

Related sources (MNIST's digits for scikit-learn's), less related ones (clothing and
animals for digits) and corrupted ones (permuted pixels, random labels). Batches of a
tenth, a half and all of the training images: how noisy the gradient is, is how much of
a conflict can be seen. Images of 8x8 pixels, the size of scikit-learn's digits.
"""

from experiments.recipe import Recipe
from experiments.sources import SmallImages
from experiments.study import Study

_RULES = "sum", "global", "layer", "drop", "drop-capped"

STUDY = Study(
    title="The paper's questions on small images",
    images=SmallImages(side=8),
    tasks=(
        ("mnist", "digits"),
        ("mnist:random-labels", "digits"),
        ("fashion-mnist", "mnist"),
        ("mnist:permuted-pixels", "digits"),
        ("animals", "mnist"),
    ),
    methods=(
        *("plain", "frozen", "l2/sum"),
        *(
            f"{regularizer}/{rule}"
            for regularizer in ("l2-sp", "kd")
            for rule in _RULES
        ),
    ),
    weights=(0.01, 0.1, 1.0),
    learning_rates=(0.003, 0.01, 0.03),
    recipes=tuple(Recipe(200, size, learning_rate=0.01) for size in (10, 50, 100)),
    pretraining=Recipe(1000, batch_size=100, learning_rate=3e-3, optimizer="adam"),
    seeds=10,
    per_class=10,
    validation_per_class=10,
    test=1000,
)
