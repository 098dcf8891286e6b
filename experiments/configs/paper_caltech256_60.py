"""Caltech-256 at 60 images per class, from ImageNet and from dogs.

Command: ``python -m experiments run paper-caltech256-60``. Everything else is as in
``paper_caltech256_30``. Result: none yet.
"""

from experiments.paper import protocol

STUDY = protocol("caltech256-60", per_class=54, validation_per_class=6)
