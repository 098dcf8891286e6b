"""Caltech-101, CIFAR-10 and Tiny ImageNet at 25 images per class, from ImageNet.

Command: ``python -m experiments run photographs``, with the archives
``101_ObjectCategories.tar.gz`` (Caltech-101), ``cifar10_jpeg.tar.xz`` (CIFAR-10 as JPEG
files in ``train/CLASS`` and ``test/CLASS``, so with lossy compression) and
``tiny_imagenet_80_25.tar.xz`` (Tiny ImageNet, 80 training and 25 validation images per
class) in ``runs/data/archives``. Expected: about two hours on two otherwise idle cores.
Result: ``experiments/results/photographs``.

The network is EfficientNet-Lite0 at 64 pixels. Everything up to the sixth stage is
frozen, and its output is computed once. The seventh stage, the last convolution and the
head are fine-tuned: 1.1 million parameters. The corrupted source is the same network
after its upper part was trained on images of another data set with random labels.
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
            (
                "tiny-imagenet",
                (f"{_ARCHIVES}/tiny_imagenet_80_25.tar.xz", "train", "validation"),
            ),
        ),
    ),
    tasks=(
        ("imagenet", "caltech101"),
        ("cifar10:random-labels", "caltech101"),
        ("imagenet", "cifar10"),
        ("caltech101:random-labels", "cifar10"),
        ("imagenet", "tiny-imagenet"),
        ("caltech101:random-labels", "tiny-imagenet"),
    ),
    methods=(
        "plain",
        *("l2-sp/sum", "kd/sum", "l2/sum", "l2-sp/layer", "kd/layer"),
        *("l2-sp/steady", "kd/steady", "l2/steady"),
        *("l2-sp+l2/steady", "kd+l2-sp+l2/steady"),
        *("kd/steady-ratio-0.5", "kd+l2-sp+l2/steady-ratio-0.5"),
        *("kd/steady-ratio-1", "kd+l2-sp+l2/steady-ratio-1"),
    ),
    weights=(0.001, 0.01, 0.1),
    learning_rates=(0.0003, 0.001, 0.003),
    recipes=(Recipe(steps=300, batch_size=50, learning_rate=0.001, optimizer="adam"),),
    pretraining=Recipe(500, batch_size=64, learning_rate=1e-3, optimizer="adam"),
    seeds=6,
    per_class=25,
    validation_per_class=5,
    test=2000,
)
