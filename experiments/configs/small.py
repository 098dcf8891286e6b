"""The paper's questions on small grey images and a small network, on a CPU.

Command: ``python -m experiments grid small``, then
``python -m experiments report runs/grid/small``. Expected: 585 cells took 2.4 hours,
beside other work on two cores. Result: ``experiments/results/grid-small``.

Sources that suit (MNIST's digits for scikit-learn's), that suit less (clothing and
animals for digits) and that do not (permuted pixels, random labels). Batches of a
tenth, a half and all of the training images: how noisy the gradient is, is how much of
a conflict can be seen. Images of 8x8 pixels, the size of scikit-learn's digits.
"""

from experiments.grid.config import SmallGrid
from experiments.methods import family
from experiments.networks import Architecture
from experiments.recipe import Recipe

GRID = SmallGrid(
    pairs=(
        ("mnist", "digits"),
        ("mnist:random-labels", "digits"),
        ("fashion-mnist", "mnist"),
        ("mnist:permuted-pixels", "digits"),
        ("animals", "mnist"),
    ),
    methods=("plain", "frozen", "l2", *family("l2-sp"), *family("kd")),
    batch_sizes=(10, 50, 100),
    weights=(0.01, 0.1, 1.0),
    learning_rates=(0.003, 0.01, 0.03),
    recipe=Recipe(steps=200, learning_rate=0.01),
    pretraining=Recipe(1000, batch_size=100, learning_rate=3e-3, optimizer="adam"),
    architecture=Architecture(side=8),
    seeds=10,
    per_class=10,
    test=1000,
)
