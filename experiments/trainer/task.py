"""The data and the network of a run, the same in every process."""

import dataclasses

import numpy as np

from experiments.data import Dataset, few_shot, load, photographs
from experiments.errors import InputError
from experiments.methods import Method, method
from experiments.networks import Architecture, Spec, Upper
from experiments.recipe import Recipe
from experiments.trainer.config import SMALL, Train


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What is trained on what.

    Attributes:
      architecture: of the network, with the data set's number of classes.
      method: how the regularizer, if any, joins the empirical gradient.
      weight: λ.
      recipe: steps, batch size, learning rate, optimizer.
      dataset: all images.
      train: int32 ``[n]``, indices of the training images.
      test: int32 ``[m]``, indices of the held-out images.
      seed: of all that is drawn.
    """

    architecture: Spec
    method: Method
    weight: float
    recipe: Recipe
    dataset: Dataset
    train: np.ndarray
    test: np.ndarray
    seed: int


def task_of(config: Train) -> Task:
    """Reads the data.

    Raises:
      InputError: if data set or method is unknown or not there, or too small.
    """
    if config.network == SMALL:
        dataset = load(config.data, Architecture().side)
        architecture = Architecture(classes=dataset.classes)
    else:
        dataset = photographs(config.data, config.split, config.side)
        architecture = Upper(config.network, None, dataset.classes)
    train, test = few_shot(dataset, config.per_class, config.seed)
    if config.batch_size > len(train):
        raise InputError(
            f"a batch of {config.batch_size} images does not fit into {len(train)} "
            "training images; give a smaller --batch-size or a larger --per-class"
        )
    return Task(
        architecture, method(config.method), config.weight, config.recipe, dataset,
        train, test, config.seed,
    )  # fmt: skip
