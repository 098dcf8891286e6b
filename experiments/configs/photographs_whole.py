"""CIFAR-10 with the whole network at 96 pixels, no part of it frozen.

Command: ``python -m experiments run photographs-whole``, with the archives that
``photographs`` needs. Expected: a few minutes on a GPU; not for a CPU. Result:
``experiments/results/photographs-whole``.

The network is EfficientNet-Lite0 with frozen BatchNorm statistics: 3.4 million
parameters. The corrupted source is the same network after it was trained on Tiny
ImageNet with random labels.
"""

import dataclasses

from experiments.configs import photographs
from experiments.networks import Upper

STUDY = dataclasses.replace(
    photographs.STUDY,
    title="Photographs with the whole network",
    images=dataclasses.replace(
        photographs.STUDY.images, spec=Upper("efficientnet-lite0", None), side=96
    ),
    tasks=(("imagenet", "cifar10"), ("tiny-imagenet:random-labels", "cifar10")),
    methods=(
        *("plain", "l2-sp/sum", "kd/sum", "l2/sum"),
        *("l2-sp+l2/steady", "kd+l2-sp+l2/steady"),
    ),
    weights=(0.01, 0.1),
    learning_rates=(0.0003, 0.001),
)
