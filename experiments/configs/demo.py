"""How much regularizers can hurt, and what DTNH and the steady rule change.

Command: ``make demo``, which runs ``python -m experiments run demo``. Expected: about
three minutes on two cores. Result: ``experiments/results/demo``.

A small network is pretrained on a related source (MNIST) and on a corrupted one (MNIST
with shuffled labels, which it can only memorize). It is then fine-tuned to
scikit-learn's digits with three images per class.

The settings, none of which was chosen by a result of DTNH. Three images per class:
there L2-SP helps from the related source; at ten it does not. Images of 8x8 pixels: the
native size of the digits, and about three times as fast as 16x16. Random labels, not
permuted pixels, for the corrupted source: fine-tuning from them ends further below
training from scratch. λ = 0.1, 1 and 100 for every method and source: values that a
user might try without tuning.
"""

from experiments.recipe import Recipe
from experiments.sources import SmallImages
from experiments.study import Study

STUDY = Study(
    title="Fine-tuning to digits, 3 images per class",
    images=SmallImages(side=8),
    tasks=(("mnist", "digits"), ("mnist:random-labels", "digits")),
    methods=(
        "plain",
        *("l2-sp/sum", "l2-sp/layer"),
        *("l2/sum", "l2/layer"),
        *("kd/sum", "kd/layer"),
        *("l2-sp+l2/steady", "kd+l2-sp+l2/steady"),
    ),
    weights=(0.1, 1.0, 100.0),
    recipes=(Recipe(steps=200, batch_size=10, learning_rate=0.01),),
    pretraining=Recipe(1000, batch_size=100, learning_rate=3e-3, optimizer="adam"),
    seeds=10,
    per_class=3,
)
