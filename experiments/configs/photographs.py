"""Caltech-101 at 30 images a class and CIFAR-10 at 30, from ImageNet.

Command: ``python -m experiments grid photographs``, with the archives
``101_ObjectCategories.tar.gz`` (Caltech-101) and ``cifar10_jpeg.tar.xz`` (CIFAR-10 as
JPEG files in ``test/CLASS``, so with JPEG's losses) in ``runs/data/archives``.

EfficientNet-Lite0 at 64 pixels, of which all up to the sixth stage is frozen and its
output computed once: what is fine-tuned are the seventh stage, the last convolution and
the head, 1.1 million numbers. 25 images a class to train on and 5 to validate. The
corrupted source is the same network after its upper part has been trained to tell
apart images of the other data set by labels that mean nothing. Expected: 160 cells,
about 45 minutes on two cores with nothing beside; here they ran beside other work.
Result: ``experiments/results/grid-photographs``.
"""

from experiments.grid.photographs import PhotographGrid
from experiments.networks import Upper
from experiments.recipe import Recipe

ARCHIVES = "folder:runs/data/archives"

GRID = PhotographGrid(
    pairs=(
        ("imagenet", "caltech101"),
        ("cifar10:random-labels", "caltech101"),
        ("imagenet", "cifar10"),
        ("caltech101:random-labels", "cifar10"),
    ),
    methods=(
        "plain",
        "frozen",
        *("l2-sp", "dtnh-global", "dtnh-layer", "dtnh-best"),
        *("kd", "kd-global", "kd-layer", "kd-best"),
    ),
    batch_sizes=(32,),
    weights=(0.001, 0.01, 0.1, 1.0),
    learning_rates=(0.001, 0.003, 0.01, 0.03),
    recipe=Recipe(steps=200, learning_rate=0.003),
    pretraining=Recipe(500, batch_size=64, learning_rate=1e-3, optimizer="adam"),
    architecture=Upper("efficientnet-lite0", "stage6"),
    side=64,
    sets=(
        ("caltech101", (f"{ARCHIVES}/101_ObjectCategories.tar.gz", "all")),
        ("cifar10", (f"{ARCHIVES}/cifar10_jpeg.tar.xz", "test")),
    ),
    seeds=3,
    per_class=25,
    validation_per_class=5,
    test=2000,
)
