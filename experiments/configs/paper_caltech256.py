"""Caltech-256 at 30 and at 60 images a class, from ImageNet and from dogs.

Commands: ``python -m experiments grid paper-caltech256-30`` and ``-60``, with
``256_ObjectCategories.tar`` in ``runs/data/archives`` or a network to fetch it; for the
sources, Stanford Dogs as TensorFlow Datasets prepares it (which needs TensorFlow once).
With ``--quick``: EfficientNet-Lite0 at 64 pixels, 10 steps.

Expected: not run; the data cannot be fetched where this was written. A cell of 5 seeds
takes 2.9 million images through a ResNet-101 and back, DTNH on features about half as
long again; there are 216 cells. Which images are drawn for training is fixed; seeds
vary validation images, head and order.

Result: none yet.
"""

from experiments.configs.paper import protocol

GRID_30 = protocol("caltech256", ("train", "test"), 25, 5)
GRID_60 = protocol("caltech256-60", ("train", "test"), 54, 6)
