"""All of CIFAR-10, enlarged, from ImageNet and from dogs.

Command: ``python -m experiments run paper-cifar10``, with CIFAR-10 and Stanford Dogs as
prepared by TensorFlow Datasets. With ``--quick``: EfficientNet-Lite0 at 64 pixels, 10
steps.

Expected: not run yet, because the official files were not available (the study
``photographs`` has a few-shot version that was run). A cell of 5 seeds takes 2.9
million images through a ResNet-50 and back. Result: none yet.
"""

from experiments.paper import protocol

STUDY = protocol("cifar10", 4500, 500, network="resnet50")
