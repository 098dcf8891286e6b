"""All of CIFAR-10, enlarged, from ImageNet and from dogs.

Command: ``python -m experiments grid paper-cifar10``, with CIFAR-10 and Stanford Dogs
as TensorFlow Datasets prepares them. With ``--quick``: EfficientNet-Lite0 at 64 pixels,
10 steps.

Expected: not run; the official files cannot be fetched where this was written (the grid
``photographs`` has a few-shot form of it that was). A cell of 5 seeds takes 2.9 million
images through a ResNet-50 and back; there are 216 cells. The 60,000 images take 12 GB
at 256 pixels, on the device too.

Result: none yet.
"""

from experiments.configs.paper import protocol

GRID = protocol("cifar10", ("train", "test"), 4500, 500, network="resnet50")
