"""Distillation with two backward passes in every k-th step only.

`amortized_value_and_grad` measures the weights of loss and penalty in every k-th step,
and in the others takes the gradient of one weighted loss. Timed are a step that
measures and one that does not, each against one backward pass of the sum of loss and
penalty; the ratios for k are their means over k steps. With `measure` and `reuse`,
called in turn from Python; the last row is `value_and_grad`, one program for both ways.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from rich.console import Console

from benchmarks import comparison
from benchmarks.benchmark import Timed
from benchmarks.comparison import compared
from benchmarks.programs.amortized_steps import amortized_steps
from benchmarks.programs.steps import PENALTIES, distillation_steps
from benchmarks.programs.workload import workload
from benchmarks.records import Row
from benchmarks.tables import Table

REFERENCE = "joint loss"
# By k, the ratio that we want to keep below.
TARGETS = {4: None, 16: 1.06}


@dataclasses.dataclass(frozen=True)
class AmortizedSteps(Timed):
    """Time training steps with amortized_value_and_grad(); about two minutes."""

    name = "amortized"

    networks: tuple[str, ...] = ("resnet18", "vit")
    """Which networks: resnet18, resnet50, vit, tiny."""
    penalty: str = "last map"
    """What is distilled: last map, all maps, logits."""
    seconds: float = 20.0
    """Time for the calls of each network."""

    def measure(self, console: Console) -> Iterator[Row]:
        for network in ("tiny",) if self.quick else self.networks:
            load = workload(network)
            what = load.network, load.optimizer, PENALTIES[self.penalty]
            joint = distillation_steps(*what, teacher_in_step=False)[REFERENCE]
            programs = load.programs({REFERENCE: joint, **amortized_steps(*what)})
            times = self.time(programs)
            # Name, floor and target.
            shown = [("measuring", 5 / 3, None), ("reusing", 1.0, None)]
            for k, target in TARGETS.items():
                name = f"k = {k}"
                times[name] = (times["measuring"] + (k - 1) * times["reusing"]) / k
                programs[name] = programs["measuring"]
                shown.append((name, (5 / 3 + k - 1) / k, target))
            for name, floor, target in (*shown, ("reusing, conditional", 1.0, None)):
                yield compared(
                    f"{load.title}, {self.penalty}",
                    name,
                    REFERENCE,
                    times,
                    programs,
                    floor=floor,
                    target=target,
                )
            console.print(f"done: {load.title}")

    def tables(self, rows: Sequence[Row]) -> dict[str, Table]:
        return {"amortized step": comparison.table(rows)}
