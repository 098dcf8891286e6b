"""The methods that are compared, the result of each, and which one is chosen."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.cell import Target, summary
from experiments.methods import PLAIN, Method, method
from experiments.statistics import Estimate, estimate
from experiments.training.evaluate import probabilities, right
from experiments.training.job import Job
from experiments.training.loop import Fitted
from experiments.training.names import flatten

# Plain fine-tuning, and the steady rule with the regularizers that need no second
# backward pass, or with all of them. λ hardly matters: the rule caps its effect.
METHODS = PLAIN, "l2-sp+l2/steady", "kd+l2-sp+l2/steady"
WEIGHT = 10.0


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """The result of one method over ``S`` seeds.

    Attributes:
      name: name of the method.
      steps: number of updates.
      fitted: the trained networks.
      answers: probabilities ``[S, m, classes]`` on the test images.
      record: the results in ``about.json``, with accuracies in percent.
    """

    name: str
    steps: int
    fitted: Fitted
    answers: np.ndarray
    record: dict[str, Any]

    @property
    def method(self) -> Method:
        return method(self.name)

    @property
    def words(self) -> str:
        """A name of the method for users who do not know its parts."""
        if self.method.rule is None:
            return self.method.label
        return f"DTNH ({self.method.regularizer})"

    @property
    def accuracy(self) -> Estimate:
        return estimate(self.record["accuracy"])

    @property
    def validation(self) -> Estimate:
        return estimate(self.record["validation"])

    @property
    def seed(self) -> int:
        """The seed with the highest validation accuracy, the first one if tied."""
        return int(np.argmax(self.record["validation"]))


def outcome(name: str, job: Job, fitted: Fitted, target: Target) -> Outcome:
    """Evaluates a method on the validation and test images of ``target``."""

    def answers(members: np.ndarray) -> np.ndarray:
        crop = job.recipe.crop
        return probabilities(job.spec, fitted.params, target.dataset, members, crop)

    assert target.validation is not None
    validation, test = answers(target.validation), answers(target.test)
    record = summary(fitted, right(test, target.dataset, target.test))
    shares = right(validation, target.dataset, target.validation)
    record["validation"] = np.round(100 * shares, 4).tolist()
    return Outcome(name, job.recipe.steps, fitted, test, record)


def choose(outcomes: Sequence[Outcome]) -> Outcome:
    """The best on validation images. If tied, the first: plain fine-tuning leads."""
    return max(outcomes, key=lambda one: one.validation.mean)


def sentence(outcomes: Sequence[Outcome], images: int) -> str:
    """The finding, in a sentence."""
    plain, best = outcomes[0], choose(outcomes)
    other = max(outcomes[1:], key=lambda one: one.validation.mean)
    first, second = (best, plain) if best is not plain else (plain, other)
    text = (
        f"{first.words} {first.accuracy.percent}, {second.words} "
        f"{second.accuracy.percent}, on {images} test images "
        f"({len(plain.record['accuracy'])} seeds)"
    )
    return f"{text}; {first.words} was chosen on validation images"


def doubts(outcomes: Sequence[Outcome], job: Job, test: np.ndarray) -> list[str]:
    """What to warn of in the result, if anything."""
    found = []
    labels = job.dataset.labels[test]
    chance = np.mean([np.bincount(row).max() / row.size for row in labels])
    noise = np.sqrt(chance * (1 - chance) / labels.shape[1])
    if chance + 2 * noise > 1:
        images = labels.shape[1]
        found.append(f"too few test images ({images}) to tell any result from chance")
    for one in outcomes:
        if one.accuracy.mean / 100 < chance + 2 * noise <= 1:
            found.append(
                f"{one.words} cannot be told from chance: {one.accuracy.percent}, but "
                f"{100 * chance:.1f} % for always answering the largest class; try "
                "another --learning-rate or more --steps"
            )
    before, after = (
        {name: np.asarray(x) for name, x in _body(params).items()}
        for params in (job.params, outcomes[0].fitted.params)
    )
    if before and all(np.array_equal(before[name], after[name]) for name in before):
        found.append(
            "no gradient reached the body (the network below its head): plain "
            "fine-tuning did not change it"
        )
    return found


def _body(params: Any) -> dict[str, Any]:
    return flatten({key: value for key, value in params.items() if key != "head"})
