"""Caltech-101 at 5 images per class, from ImageNet and from a corrupted source.

Command: ``python -m experiments run photographs-few``, with the archives that
``photographs`` needs. Expected: about 40 minutes on two otherwise idle cores. Result:
``experiments/results/photographs-few``.
"""

import dataclasses

from experiments.configs import photographs

STUDY = dataclasses.replace(
    photographs.STUDY,
    title="Few photographs per class, from ImageNet",
    tasks=(
        ("imagenet", "caltech101"),
        ("cifar10:random-labels", "caltech101"),
    ),
    per_class=5,
)
