"""Caltech-101 and CIFAR-10 at 25 images per class, from ImageNet.

Command: ``python -m experiments run photographs``, with the archives
``101_ObjectCategories.tar.gz`` (Caltech-101) and ``cifar10_jpeg.tar.xz`` (CIFAR-10 as
JPEG files in ``test/CLASS``, so with lossy compression) in ``runs/data/archives``.
Expected: about 45 minutes on two otherwise idle cores. Result: none yet.

The network is EfficientNet-Lite0 at 64 pixels. Everything up to the sixth stage is
frozen, and its output is computed once. The seventh stage, the last convolution and the
head are fine-tuned: 1.1 million parameters. The corrupted source is the same network
after its upper part was trained on images of the other data set with random labels.
"""

from experiments.networks import Upper
from experiments.recipe import Recipe
from experiments.sources import Photographs
from experiments.study import Study

_ARCHIVES = "folder:runs/data/archives"

STUDY = Study(
    title="Photographs, from ImageNet",
    images=Photographs(
        spec=Upper("efficientnet-lite0", "stage6"),
        side=64,
        sets=(
            ("caltech101", (f"{_ARCHIVES}/101_ObjectCategories.tar.gz", "all")),
            ("cifar10", (f"{_ARCHIVES}/cifar10_jpeg.tar.xz", "test")),
        ),
    ),
    tasks=(
        ("imagenet", "caltech101"),
        ("cifar10:random-labels", "caltech101"),
        ("imagenet", "cifar10"),
        ("caltech101:random-labels", "cifar10"),
    ),
    methods=(
        *("plain", "frozen"),
        *("l2-sp/sum", "l2-sp/global", "l2-sp/layer", "l2-sp/steady"),
        *("kd/sum", "kd/global", "kd/layer", "kd/steady"),
        *("l2-sp+l2/steady", "kd+l2-sp+l2/steady"),
    ),
    weights=(0.001, 0.01, 0.1, 1.0),
    learning_rates=(0.001, 0.003, 0.01, 0.03),
    recipes=(Recipe(steps=200, batch_size=32, learning_rate=0.003),),
    pretraining=Recipe(500, batch_size=64, learning_rate=1e-3, optimizer="adam"),
    seeds=3,
    per_class=25,
    validation_per_class=5,
    test=2000,
)
