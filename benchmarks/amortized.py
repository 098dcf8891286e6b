"""Distillation with two backward passes in every k-th step only.

`amortized_value_and_grad` measures the weights of loss and penalty in every k-th step,
and in the others takes the gradient of one weighted loss. Timed are a step that
measures and one that does not, each against one backward pass of the sum of loss and
penalty; the ratios for k are their means over k steps. With `measure` and `reuse`,
called in turn from Python; the last row is `value_and_grad`, one program for both ways.
"""

import dataclasses
from pathlib import Path

from rich.console import Console

from benchmarks import models, results, tables, training
from benchmarks.results import FOLDER, Row, compared
from benchmarks.timing import Program, interleaved

REFERENCE = "joint loss"
TARGETS = {4: None, 16: 1.06}


@dataclasses.dataclass(frozen=True)
class AmortizedSteps:
    """Time training steps with amortized_value_and_grad(); about two minutes."""

    networks: tuple[str, ...] = ("resnet18", "vit")
    """Which networks: resnet18, resnet50, vit, tiny."""
    penalty: str = "last map"
    """What is distilled: last map, all maps, logits."""
    seconds: float = 20.0
    """Time for the calls of each network."""
    least: int = 7
    """Repetitions, even where they take longer than that."""
    quick: bool = False
    """A tiny network and three repetitions: to see whether it runs."""
    out: Path = FOLDER
    """Folder for the results."""

    def run(self, console: Console) -> Path:
        """Measures, prints a table and writes JSON; returns its path."""
        rows: list[Row] = []
        for name in ("tiny",) if self.quick else self.networks:
            rows += self._measure(name)
        console.print(tables.terminal("amortized step", *tables.comparison(rows, ())))
        return results.write("amortized", self, rows, self.out)

    def _measure(self, name: str) -> list[Row]:
        model = models.find(name)
        size = model.size()
        network = models.network(model, size.pixels)
        inputs = models.inputs(network, size)
        optimizer, penalty = model.optimizer(), training.PENALTIES[self.penalty]
        joint = training.distillation_steps(
            network, optimizer, penalty, teacher_in_step=False
        )[REFERENCE]
        steps = {
            REFERENCE: joint,
            **training.amortized_steps(network, optimizer, penalty),
        }
        programs = {
            key: Program(step, models.start(step, network), inputs, donated=1)
            for key, step in steps.items()
        }
        seconds, least = (0.0, 3) if self.quick else (self.seconds, self.least)
        times = interleaved(programs, seconds=seconds, least=least)
        for k in TARGETS:
            key = f"k = {k}"
            times[key] = (times["measuring"] + (k - 1) * times["reusing"]) / k
            programs[key] = programs["measuring"]
        where = f"{model.title}, {size.pixels} px, batch {size.batch}, {self.penalty}"
        return [
            compared(
                f"{where}: {key}",
                key,
                REFERENCE,
                programs,
                times,
                floor=floor,
                target=target,
            )
            for key, floor, target in (
                ("measuring", 5 / 3, None),
                ("reusing", 1.0, None),
                *(
                    (f"k = {k}", (5 / 3 + k - 1) / k, target)
                    for k, target in TARGETS.items()
                ),
                ("reusing, conditional", 1.0, None),
            )
        ]
