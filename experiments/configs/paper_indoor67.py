"""MIT Indoor 67 in its official split, 80 images per class, from ImageNet and dogs.

Command: ``python -m experiments run paper-indoor67``, with ``indoorCVPR_09.tar`` and
its two lists in ``runs/data/archives``, and Stanford Dogs as prepared by TensorFlow
Datasets. With ``--quick``: EfficientNet-Lite0 at 64 pixels, 10 steps. The network is a
ResNet-50, which costs less than a ResNet-101.

Expected: not run yet, because the data were not available. A cell of 5 seeds takes 2.9
million images through the network and back. Result: none yet.
"""

from experiments.paper import protocol

STUDY = protocol("mit_indoor67", 72, 8, network="resnet50")
