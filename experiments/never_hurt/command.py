"""The study `never-hurt`: does any rule never fall below plain fine-tuning?

Over sources from related to corrupted, weights over four decades and two optimizers,
every rule of ``RULES`` is held against fine-tuning without a regularizer on the same
seeds. Rules were chosen on the pairs to ``SELECT`` and then run once, unchanged, on the
pairs to ``CONFIRM``. Every finished cell is a line of ``cells.jsonl`` at once, and is
not run again: a study that was cut short goes on where it was.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from rich.console import Console
from tyro.conf import arg

from experiments import cells
from experiments.data import load
from experiments.errors import unknown
from experiments.finetune import Target, few_shot_target, finetune, from_scratch
from experiments.methods import METHODS
from experiments.networks import Architecture, Params
from experiments.never_hurt.report import publish
from experiments.pretrain import pretrained_on
from experiments.progress import Reporter
from experiments.recipe import Recipe
from experiments.study import LEAST, Study

# Target, and the sources to it: a related task, another task, permuted pixels, labels
# without meaning, and no pretraining at all. The empty name stands for random weights.
KINDS = ("", ":rotations", ":permuted-pixels", ":random-labels")
SELECT = ("digits", (*(f"mnist{kind}" for kind in KINDS), ""))
CONFIRM = ("mnist-high", tuple(f"mnist-low{kind}" for kind in KINDS))
PAIRS = {"select": SELECT, "confirm": CONFIRM}

RULES = (
    "l2-sp",
    "dtnh-global",
    "dtnh-layer",
    "dtnh-leaf",
    "drop",
    "average",
    "cap-0.1",
    "cap-0.3",
    "cap-1",
    "falling",
    "drop-cap-0.3",
    "inner-sum",
    "inner",
    "inner-drop",
    "inner-drop-cap-3",
    "guarded",
    "inner-guarded",
)
LEARNING_RATES = {"sgd": 0.01, "adam": 0.003}


@dataclasses.dataclass(frozen=True)
class NeverHurt(Study):
    """Hold every rule against plain fine-tuning, from related to corrupted sources.

    Writes cells.jsonl, table.md and never-hurt.png; takes about 40 minutes on two
    cores. Run again, it goes on where it was.
    """

    out: Path = Path("runs/never-hurt")
    pairs: tuple[str, ...] = tuple(PAIRS)
    """Groups of source-target pairs: select, confirm."""
    optimizers: tuple[str, ...] = ("sgd", "adam")
    """Optimizers: sgd (with momentum 0.9), adam."""
    rules: tuple[str, ...] = RULES
    """Rules to compare."""
    weights: Annotated[tuple[float, ...], arg(name="lambda")] = (0.01, 0.1, 1, 10, 100)
    """Weights λ of the regularizer."""
    quick: bool = False
    """2 seeds, 10 steps, 1 epoch, 2 rules, 2 weights: shows that it runs, no more."""

    def check(self) -> None:
        super().check()
        for kind, chosen, known in (
            ("group of pairs", self.pairs, PAIRS),
            ("optimizer", self.optimizers, LEARNING_RATES),
            ("rule", self.rules, METHODS),
        ):
            for name in chosen:
                if name not in known:
                    raise unknown(kind, name, known)

    def shortened(self) -> Self:
        """The quick form."""
        return dataclasses.replace(
            self,
            seeds=2,
            steps=min(self.steps, 10),
            epochs=1,
            rules=self.rules[:2],
            weights=self.weights[:2],
            optimizers=self.optimizers[:1],
        )


def run(config: NeverHurt, console: Console) -> None:
    """Runs what is missing, then writes and prints the report."""
    config.check()
    config = config.shortened() if config.quick else config
    reporter = Reporter(console, config.quiet)
    path = config.out / "cells.jsonl"
    settings = {name: getattr(config, name) for name in LEAST}
    done = {_key(cell) for cell in cells.resume(path, settings)}
    plan = [cell for cell in _plan(config) if _key(cell) not in done]
    bodies: dict[str, tuple[str, Params]] = {}
    with reporter.study(len(plan)):
        for cell in plan:
            if cell["source"] not in bodies:  # one source's networks at a time
                bodies = {cell["source"]: _body(config, cell["source"], reporter)}
            name, params = bodies[cell["source"]]
            title = f"{name} to {cell['target']}, {cell['optimizer']}: {cell['method']}"
            with reporter.task(f"{title}, λ = {cell['weight']}", 1) as advanced:
                cells.append(path, _run(config, cell, name, params, advanced))
    publish(config.out, console, cells.read(path))


def _plan(config: NeverHurt) -> Iterator[dict[str, Any]]:
    for group in config.pairs:
        target, sources = PAIRS[group]
        for source in sources:
            for optimizer in config.optimizers:
                one = {"group": group, "target": target, "source": source}
                one["optimizer"] = optimizer
                yield {**one, "method": "plain", "weight": None}
                for rule in config.rules:
                    for weight in config.weights:
                        yield {**one, "method": rule, "weight": weight}


def _key(cell: dict[str, Any]) -> tuple:
    names = ("group", "target", "source", "optimizer", "method", "weight")
    return tuple(cell[name] for name in names)


def _body(config: NeverHurt, source: str, reporter: Reporter) -> tuple[str, Params]:
    """The networks to begin with, one a seed, and what they are called."""
    if not source:
        return "random weights", from_scratch(Architecture(), config.seeds)
    dataset = load(source, Architecture().side)
    with reporter.task(f"{dataset.name}: pretraining", 0) as advanced:
        body = pretrained_on(
            dataset, config.epochs, config.seeds, config.cache, reporter.warn, advanced
        )
    return dataset.name, body.params


def _run(config, cell, name, params, advanced) -> dict[str, Any]:
    target = _target(config, cell["target"])
    rate = LEARNING_RATES[cell["optimizer"]]
    recipe = Recipe(config.steps, 10, rate, cell["optimizer"])
    record = {"record": "cell", **cell, "from": name}
    try:
        found = finetune(
            Architecture(), name, params, cell["method"], cell["weight"], recipe,
            target, advanced,
        )  # fmt: skip
    except FloatingPointError as error:  # reported, and the others go on
        return {**record, "diverged": str(error)}
    record["accuracy"] = [round(100 * float(share), 4) for share in found.accuracy]
    record["final_loss"] = float(np.mean(found.trace.loss[:, -10:]))
    if found.trace.cosine is not None:
        record["conflict_rate"] = float(found.trace.conflict.mean())
        record["mean_cosine"] = float(found.trace.cosine.mean())
    return record


def _target(config: NeverHurt, name: str) -> Target:
    dataset = load(name, Architecture().side)
    return few_shot_target(dataset, config.per_class, config.seeds)
