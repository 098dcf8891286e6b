"""The demo: does a regularizer that conflicts with the task hurt, and does DTNH help?

``python -m experiments demo`` takes about two minutes on two cores. A small
network is pretrained on a suitable source (MNIST) and on an unsuitable one (MNIST with
shuffled labels, which it can only memorize), and fine-tuned to scikit-learn's digits,
three images a class, by every method of ``methods``.

What was chosen, and why; none of it by a result of DTNH. Three images a class: there
L2-SP helps from the suitable source, at ten it does not. Images of 8x8 pixels: the
digits' own size, and about three times as fast as 16x16. Random labels rather than
permuted pixels as the unsuitable source: fine-tuning from them ends further below
training from scratch. λ = 0.1 and 1 for every method and source alike, with no search
for the best; at λ = 1 plain L2 shrinks the network to nothing, and L2-SP does not,
because of where it pulls to.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Self

from rich.console import Console
from tyro.conf import arg

from experiments.data import Dataset, load
from experiments.demo.report import publish
from experiments.errors import InputError
from experiments.finetune import Cell, Target, few_shot_target, finetune, from_scratch
from experiments.methods import BASIC, METHODS, method
from experiments.networks import Architecture, Params
from experiments.pretrain import pretrained_on
from experiments.progress import Reporter
from experiments.provenance import about
from experiments.recipe import Recipe
from experiments.statistics import estimate
from experiments.study import Study


@dataclasses.dataclass(frozen=True)
class Demo(Study):
    """Fine-tune pretrained networks eight ways, from a good and an unsuitable source.

    Writes results.jsonl, table.md, accuracy.png and conflict.png; takes about two
    minutes on two cores, less when the pretrained networks are cached.
    """

    out: Path = Path("runs/demo")
    sources: tuple[str, ...] = ("mnist", "mnist:random-labels")
    """Data sets to pretrain on, plain or spoiled (mnist:permuted-pixels)."""
    target: str = "digits"
    """Data set to fine-tune to."""
    methods: tuple[str, ...] = BASIC
    """Methods to compare."""
    weights: Annotated[tuple[float, ...], arg(name="lambda")] = (0.1, 1.0)
    """Weights λ of the regularizer; methods without one run once."""
    quick: bool = False
    """At most 2 seeds, 20 steps and 1 epoch: shows that it runs, nothing more."""

    def check(self) -> None:
        super().check()
        for name in ("sources", "methods", "weights"):
            if not getattr(self, name):
                raise InputError(f"{name} must name at least one")
        for weight in self.weights:
            if weight < 0:
                raise InputError(f"λ must not be negative, got {weight:g}")
        for name in self.methods:
            method(name)

    def shortened(self) -> Self:
        """The quick form."""
        return dataclasses.replace(
            self,
            seeds=min(self.seeds, 2),
            steps=min(self.steps, 20),
            epochs=min(self.epochs, 1),
        )


def run(config: Demo, console: Console) -> None:
    """Runs the demo, prints the table and writes the files."""
    config.check()
    config = config.shortened() if config.quick else config
    reporter = Reporter(console, config.quiet)
    side = Architecture().side
    sources = [load(name, side) for name in config.sources]
    target = few_shot_target(load(config.target, side), config.per_class, config.seeds)
    recipe = Recipe(config.steps, batch_size=min(10, target.train.shape[1]))
    scratch, cells, learned = _train(config, recipe, sources, target, reporter)
    publish(
        config.out,
        console,
        cells,
        scratch,
        target=target.dataset.name,
        title=f"Fine-tuning to {config.target}, {config.per_class} images a class",
        notes=_notes(config, recipe, target, learned),
        header=about(_settings(config)),
    )
    reporter.say(f"written to {config.out}/")


def _train(
    config: Demo,
    recipe: Recipe,
    sources: list[Dataset],
    target: Target,
    reporter: Reporter,
) -> tuple[Cell, list[Cell], dict[str, float]]:
    """The cell from random weights, all others, and how well sources were learned."""
    plan = [
        (name, weight)
        for weight in (None, *config.weights)
        for name in config.methods
        if (weight is None) == (METHODS[name].towards is None)
    ]
    # Work is counted in images that go through the network, for the bar's time left.
    cell_work = recipe.steps * recipe.batch_size
    source_work = sum(config.epochs * len(source.labels) for source in sources)
    learned: dict[str, float] = {}
    cells: list[Cell] = []

    def cell(source: str, params: Params, name: str, weight: float | None) -> Cell:
        title = f"{source}: {METHODS[name].label}"
        title += "" if weight is None else f", λ = {weight:g}"
        with reporter.task(title, cell_work) as done:
            return finetune(
                Architecture(), source, params, name, weight, recipe, target, done
            )

    with reporter.study(source_work + cell_work * (1 + len(plan) * len(sources))):
        random = from_scratch(Architecture(), config.seeds)
        scratch = cell("random weights", random, "plain", None)
        for source in sources:
            work = config.epochs * len(source.labels)
            with reporter.task(f"{source.name}: pretraining", work) as done:
                body = pretrained_on(
                    source,
                    config.epochs,
                    config.seeds,
                    config.cache,
                    reporter.warn,
                    done,
                )
            learned[source.name] = estimate(100 * body.accuracy).mean
            cells += [cell(source.name, body.params, *each) for each in plan]
    return scratch, cells, learned


def _settings(config: Demo) -> dict:
    """The configuration as JSON can hold it, without the folders of this machine."""
    fields = dataclasses.asdict(config)
    return {key: value for key, value in fields.items() if key not in ("out", "cache")}


def _notes(
    config: Demo, recipe: Recipe, target: Target, learned: dict[str, float]
) -> list[str]:
    shares = ", ".join(f"{name} {share:.1f} %" for name, share in learned.items())
    notes = [
        f"Accuracy on {target.test.shape[1]} held-out images: mean ± standard error "
        f"over {config.seeds} seeds, which vary pretraining, training images, head and "
        "order; differences are paired by seed.",
        "Conflict: share of steps and groups in which the cosine of the two gradients "
        "is negative. DTNH (global) has one group, the others one a layer.",
        f"{recipe.steps} steps of {recipe.batch_size} images, SGD with momentum 0.9, "
        f"learning rate {recipe.learning_rate:g}; λ as given, not tuned.",
        f"Pretrained for {config.epochs} epochs; right on the source's own images: "
        f"{shares}.",
    ]
    return (
        ["Quick mode: these numbers mean nothing.", *notes] if config.quick else notes
    )
