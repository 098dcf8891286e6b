"""The protocol of the paper's experiments at full size, for whom has data and GPUs.

What is taken from where:

- DTNH (Wan et al., arXiv 1911.07489): which regularizers, which target data sets, and
  that related and unrelated sources are both tried.
- L2-SP (Li et al., arXiv 1802.01483) and DELTA (Li et al., arXiv 1901.09229), whose
  published settings are used where DTNH's paper is silent or was not to be had: a
  ResNet pretrained on ImageNet, batches of 64, momentum 0.9, 9,000 steps, the learning
  rate a tenth of 0.01 from step 6,000 on, random 224-pixel parts of photographs whose
  shorter side has 256, λ from a logarithmic grid, β = 0.01 for the new head.
- Ours: λ and the rate are chosen on validation images and never on test; every method
  has four trials; λ multiplies the head's β too, which is 0.01 at λ = 1; BatchNorm
  keeps ImageNet's statistics; sources other than ImageNet are trained on after it.

A cell trains all its seeds at once, so that memory grows with them: see `seeds`.
"""

from experiments.networks import Upper
from experiments.recipe import Recipe
from experiments.sources import Photographs
from experiments.study import Study

RECIPE = Recipe(steps=9000, batch_size=64, learning_rate=0.01, falls_at=2 / 3, crop=224)
RULES = "sum", "global", "layer", "steady"


def protocol(
    target: str, per_class: int, validation_per_class: int, network: str = "resnet101"
) -> Study:
    """The study on one target, from a related source and two that are not.

    Args:
      target: name of the photographs, as ``data.photographs`` knows it.
      per_class: training images per class.
      validation_per_class: images per class, of the training split, to validate on.
      network: key of ``NETWORKS``.
    """
    return Study(
        title=f"The paper's protocol on {target}",
        images=Photographs(
            spec=Upper(network, None),
            side=256,
            sets=(
                (target, (target, "train", "test")),
                ("stanford_dogs", ("stanford_dogs", "train")),
            ),
        ),
        tasks=(
            ("imagenet", target),
            ("stanford_dogs", target),
            ("stanford_dogs:random-labels", target),
        ),
        methods=(
            *("plain", "frozen", "l2/sum"),
            *(f"{name}/{rule}" for name in ("l2-sp", "kd", "delta") for rule in RULES),
            *("l2-sp+l2/steady", "kd+l2-sp+l2/steady"),
        ),
        weights=(0.001, 0.01, 0.1, 1.0),
        learning_rates=(0.001, 0.003, 0.01, 0.03),
        recipes=(RECIPE,),
        pretraining=RECIPE,
        seeds=5,
        per_class=per_class,
        validation_per_class=validation_per_class,
        test=10_000,
    )
