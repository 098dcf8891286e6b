"""MIT Indoor 67 by its official lists, 80 images per class, from ImageNet and dogs.

Command: ``python -m experiments run paper-indoor67``, with ``indoorCVPR_09.tar`` and
its two lists in ``runs/data/archives`` or a network to fetch them; Stanford Dogs as
TensorFlow Datasets prepares it. With ``--quick``: EfficientNet-Lite0 at 64 pixels, 10
steps. The network is a ResNet-50, which costs less than a ResNet-101.

Expected: not run; the data cannot be fetched where this was written. A cell of 5 seeds
takes 2.9 million images through the network and back. Result: none yet.
"""

from experiments.paper import protocol

STUDY = protocol("mit_indoor67", 72, 8, network="resnet50")
