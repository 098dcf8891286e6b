"""Data for the experiments: small sets that packages ship, and photographs.

``load`` gives the small sets by name, ``photographs`` what TensorFlow Datasets, an
archive or a folder holds. TensorFlow itself is not needed.
"""

from experiments.data.dataset import Dataset, few_shot, with_test_split
from experiments.data.photographs import photographs
from experiments.data.small import DATASETS, load
from experiments.data.variants import (
    VARIANTS,
    permute_pixels,
    random_labels,
    resize,
    rotations,
)

__all__ = [
    "DATASETS",
    "VARIANTS",
    "Dataset",
    "few_shot",
    "load",
    "permute_pixels",
    "photographs",
    "random_labels",
    "resize",
    "rotations",
    "with_test_split",
]
