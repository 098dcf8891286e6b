"""Caltech-256 at 30 images per class, from ImageNet and from dogs.

Command: ``python -m experiments run paper-caltech256-30``, with
``256_ObjectCategories.tar`` in ``runs/data/archives``. The sources need Stanford Dogs
as prepared by TensorFlow Datasets (which needs TensorFlow once). With ``--quick``:
EfficientNet-Lite0 at 64 pixels, 10 steps.

Expected: not run yet, because the data were not available. A cell of 5 seeds takes 2.9
million images through a ResNet-101 and back; distillation takes about half as long
again. There are 159 cells. The images in the training split are fixed; seeds vary the
validation images, the head and the order. Result: none yet.
"""

from experiments.paper import protocol

STUDY = protocol("caltech256", per_class=25, validation_per_class=5)
