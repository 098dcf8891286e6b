"""The protocol of the paper's experiments at full size, for whom has data and GPUs.

What is taken from where:

- DTNH (Wan et al., arXiv 1911.07489): which regularizers, which target data sets, and
  that sources which suit and which do not are both tried.
- L2-SP (Li et al., arXiv 1802.01483) and DELTA (Li et al., arXiv 1901.09229), whose
  published settings stand where DTNH's paper is silent or was not to be had: a ResNet
  pretrained on ImageNet, batches of 64, momentum 0.9, 9,000 steps, the learning rate a
  tenth of 0.01 from step 6,000 on, random 224-pixel parts of photographs whose shorter
  side has 256, λ from a logarithmic grid, β = 0.01 for the new head.
- Ours: λ and the rate are chosen on validation images and never on test; every method
  has four trials; λ multiplies the head's β too, which is 0.01 at λ = 1; BatchNorm
  keeps ImageNet's statistics; sources other than ImageNet are trained on after it.

A cell trains all its seeds at once, so that memory grows with them: see `seeds`.
"""

from experiments.grid.photographs import PhotographGrid
from experiments.methods import family
from experiments.networks import Upper
from experiments.recipe import Recipe

_RECIPE = Recipe(
    steps=9000, batch_size=64, learning_rate=0.01, falls_at=2 / 3, crop=224
)


def protocol(
    target: str,
    splits: tuple[str, ...],
    per_class: int,
    validation_per_class: int,
    network: str = "resnet101",
) -> PhotographGrid:
    """A grid on one target, from a source that suits and two that do not.

    Args:
      target: name of the photographs, as ``data.photographs`` knows it.
      splits: to train and to test on.
      per_class: training images a class.
      validation_per_class: images a class, of the training split, to validate on.
      network: key of ``NETWORKS``.
    """
    return PhotographGrid(
        pairs=(
            ("imagenet", target),
            ("stanford_dogs", target),
            ("stanford_dogs:random-labels", target),
        ),
        methods=(
            "plain",
            "frozen",
            "l2",
            *(name for kind in ("l2-sp", "kd", "delta") for name in family(kind)),
        ),
        batch_sizes=(64,),
        weights=(0.001, 0.01, 0.1, 1.0),
        learning_rates=(0.001, 0.003, 0.01, 0.03),
        recipe=_RECIPE,
        pretraining=_RECIPE,
        architecture=Upper(network, None),
        side=256,
        sets=(
            (target, (target, *splits)),
            ("stanford_dogs", ("stanford_dogs", "train")),
        ),
        seeds=5,
        per_class=per_class,
        validation_per_class=validation_per_class,
        test=10_000,
    )
