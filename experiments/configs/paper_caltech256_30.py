"""Caltech-256 at 30 images per class, from ImageNet and from dogs.

Command: ``python -m experiments run paper-caltech256-30``, with
``256_ObjectCategories.tar`` in ``runs/data/archives`` or a network to fetch it; for the
sources, Stanford Dogs as TensorFlow Datasets prepares it (which needs TensorFlow once).
With ``--quick``: EfficientNet-Lite0 at 64 pixels, 10 steps.

Expected: not run; the data cannot be fetched where this was written. A cell of 5 seeds
takes 2.9 million images through a ResNet-101 and back, distillation about half as long
again; there are 204 cells. Which images are drawn for training is fixed; seeds vary
validation images, head and order. Result: none yet.
"""

from experiments.paper import protocol

STUDY = protocol("caltech256", per_class=25, validation_per_class=5)
