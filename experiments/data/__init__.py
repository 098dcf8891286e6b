"""Data for the experiments: small data sets from packages, and photographs.

``load`` reads small data sets by name. ``photographs`` reads one split from TensorFlow
Datasets, an archive or a folder. ``read_folder`` reads all splits of a user's own
images. TensorFlow itself is not needed.
"""

from experiments.data.dataset import Dataset, few_shot, with_test_split
from experiments.data.image import read_image
from experiments.data.photographs import photographs, read_folder
from experiments.data.small import DATASETS, load
from experiments.data.variants import VARIANTS, permute_pixels, random_labels, rotations

__all__ = [
    "DATASETS", "VARIANTS", "Dataset", "few_shot", "load", "permute_pixels",
    "photographs", "random_labels", "read_folder", "read_image", "rotations",
    "with_test_split",
]  # fmt: skip
