"""The protocol of the paper's experiments at full size. Needs the data and GPUs.

Where the settings come from:

- DTNH (Wan et al., arXiv 1911.07489): the regularizers, the target data sets, and the
  use of both related and unrelated sources.
- L2-SP (Li et al., arXiv 1802.01483) and DELTA (Li et al., arXiv 1901.09229): their
  published settings where DTNH's paper gives none or was not available. A ResNet
  pretrained on ImageNet, batches of 64, momentum 0.9, 9,000 steps, learning rate 0.01,
  a tenth of that from step 6,000, random 224-pixel crops of photographs whose shorter
  side is 256 pixels, λ from a logarithmic grid, β = 0.01 for the new head.
- Ours: λ and the learning rate are chosen on validation images, never on test images.
  Every method has four trials, the steady rule one. λ also multiplies the head's β,
  which is 0.01 at λ = 1.
  BatchNorm keeps the ImageNet statistics. Sources other than ImageNet are trained on
  after ImageNet.

A cell trains all its seeds at once, so memory grows with `seeds`.
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
      target: name of the photographs, for ``data.photographs``.
      per_class: training images per class.
      validation_per_class: validation images per class, from the training split.
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
