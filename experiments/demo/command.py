"""The demo: how far do regularizers hurt, and what do DTNH and the steady rule change?

``python -m experiments demo`` takes about three minutes on two cores. A small network
is pretrained on a related source (MNIST) and on a corrupted one (MNIST with shuffled
labels, which it can only memorize), and fine-tuned to scikit-learn's digits, three
images per class, by every method of ``compared.ARMS``.

What was chosen, and why; none of it by a result of DTNH. Three images per class: there
L2-SP helps from the related source, at ten it does not. Images of 8x8 pixels: the
digits' own size, and about three times as fast as 16x16. Random labels rather than
permuted pixels as the corrupted source: fine-tuning from them ends further below
training from scratch. λ = 0.1, 1 and 100 for every method and source alike: what a user
might try who does not tune it.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Self

from rich.console import Console
from tyro.conf import arg

from experiments.data import Dataset, load
from experiments.demo.compared import ARMS, PLAIN
from experiments.demo.report import publish
from experiments.demo.results import diverged
from experiments.errors import InputError
from experiments.finetune import Cell, Target, few_shot_target, finetune, from_scratch
from experiments.methods import METHODS
from experiments.networks import Architecture, Params
from experiments.pretrain import pretrained_on
from experiments.progress import Reporter
from experiments.provenance import about
from experiments.recipe import Recipe
from experiments.statistics import estimate
from experiments.study import Study


@dataclasses.dataclass(frozen=True)
class Demo(Study):
    """Compare regularizers, DTNH and the steady rule with plain fine-tuning.

    Writes results.jsonl, table.md, ranges.md, accuracy.png and conflict.png; takes
    about three minutes on two cores, less when the pretrained networks are cached.
    """

    out: Path = Path("runs/demo")
    sources: tuple[str, ...] = ("mnist", "mnist:random-labels")
    """Data sets to pretrain on, as they are or corrupted (mnist:permuted-pixels)."""
    target: str = "digits"
    """Data set to fine-tune to."""
    weights: Annotated[tuple[float, ...], arg(name="lambda")] = (0.1, 1.0, 100.0)
    """Weights λ of the regularizer."""
    quick: bool = False
    """At most 2 seeds, 20 steps and 1 epoch: shows that it runs, nothing more."""

    def check(self) -> None:
        super().check()
        for name in ("sources", "weights"):
            if not getattr(self, name):
                raise InputError(f"{name} must name at least one")
        for weight in self.weights:
            if weight <= 0:
                raise InputError(f"λ must be positive, got {weight:g}")

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
    header = about(_settings(config))
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
        title=f"Fine-tuning to {target.dataset.name}, {config.per_class} images per "
        "class: accuracy minus plain fine-tuning",
        notes=_notes(config, recipe, target, learned),
        header=header,
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
    plan: list[tuple[str, float | None]] = [(PLAIN, None)]
    plan += [(name, weight) for name in ARMS for weight in config.weights]
    # Work is counted in images that go through the network, for the bar's time left.
    cell_work = recipe.steps * recipe.batch_size
    source_work = sum(config.epochs * len(source.labels) for source in sources)
    learned: dict[str, float] = {}
    cells: list[Cell] = []

    def cell(source: str, params: Params, name: str, weight: float | None) -> Cell:
        title = f"{source}: {METHODS[name].label}"
        title += "" if weight is None else f", λ = {weight:g}"
        with reporter.task(title, cell_work) as done:
            try:
                return finetune(
                    Architecture(), source, params, name, weight, recipe, target, done
                )
            except FloatingPointError:
                if weight is None:
                    raise
                return diverged(source, name, weight, config.seeds)

    with reporter.study(source_work + cell_work * (1 + len(plan) * len(sources))):
        random = from_scratch(Architecture(), config.seeds)
        scratch = cell("random weights", random, PLAIN, None)
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
        f"Points of accuracy on {target.test.shape[1]} held-out images: mean ± "
        f"standard error over {config.seeds} seeds, which vary pretraining, training "
        "images, head and order; differences are paired by seed.",
        "DTNH by layer is the paper's rule, judged by layer. The steady rule is "
        "mix_regularizers followed by dtnh_sgd with its defaults, but for λ.",
        f"{recipe.steps} steps of {recipe.batch_size} images, SGD with momentum 0.9, "
        f"learning rate {recipe.learning_rate:g}. Diverged: the loss of a seed became "
        "infinite or NaN.",
        f"Pretrained for {config.epochs} epochs; right on the source's own images: "
        f"{shares}.",
    ]
    return (
        ["Quick mode: these numbers mean nothing.", *notes] if config.quick else notes
    )
