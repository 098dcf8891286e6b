"""The whole training step with DTNH, compared with the same regularizer without it.

L2-SP: `chain(l2_sp(), dtnh(), optimizer)` against the same gradient plus
`alpha * (w - w0)`, added by hand. Distillation: `pair_value_and_grad` and `dtnh`
against one backward pass of the sum of loss and penalty. Two gradients take two
backward passes, and a backward pass costs about twice the forward pass: in FLOPs, the
floor is 5/3 of the joint step where the teacher's outputs are computed beforehand, 3/2
where its forward pass is part of both steps. A penalty on early maps does not propagate
back through the layers after them and costs less.

Forward pass, backward passes, optimizer and BatchNorm statistics are one jitted
function, whose parameters and optimizer state are donated. The pretrained parameters
are arguments of it: `l2_sp` has them in its state. Images are noise; ResNets train with
SGD and momentum, the vision transformer with AdamW. FLOPs are XLA's count for the
compiled step, the same in every run. What L2-SP costs more with DTNH is work on
parameters, which does not grow with the batch; the sweep over batches shows from which
batch on it no longer matters.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from rich.console import Console

from benchmarks import comparison
from benchmarks.benchmark import Timed
from benchmarks.comparison import compared
from benchmarks.programs import models
from benchmarks.programs.models import Size
from benchmarks.programs.tasks import (
    ALL_MAPS,
    L2_SP,
    LAST_MAP,
    LOGITS,
    TEACHER_IN_STEP,
    Task,
)
from benchmarks.programs.workload import workload
from benchmarks.records import Row
from benchmarks.tables import Table
from benchmarks.timing import Program

# Network, size, task, and which of the task's steps to hold against its reference.
Case = tuple[str, Size, Task, tuple[str, ...]]

TASKS: dict[str, tuple[Task, ...]] = {
    "resnet18": (L2_SP, LAST_MAP, TEACHER_IN_STEP, ALL_MAPS, LOGITS),
    "resnet50": (L2_SP, LAST_MAP),
    "vit": (L2_SP, LAST_MAP, TEACHER_IN_STEP, LOGITS),
    "tiny": (L2_SP, TEACHER_IN_STEP),
}
SWEPT = "vit"
USUAL = ("dtnh, global",)
EVERY = ("no regularizer", "dtnh, global", "dtnh, layer")


@dataclasses.dataclass(frozen=True)
class Step(Timed):
    """Time whole training steps with dtnh() and without; about eight minutes."""

    name = "step"

    networks: tuple[str, ...] = ("resnet18", "resnet50", "vit")
    """Which networks: resnet18, resnet50, vit, tiny."""
    pixels: int | None = None
    """Height and width of the images; by default what suits the machine."""
    batch: int | None = None
    """Images in a batch; by default what suits the machine."""
    sweep: tuple[int, ...] = (1, 8, 32, 128)
    """Batches at which the vision transformer is timed besides."""
    seconds: float = 10.0
    """Time for the calls of each network and regularizer."""

    def measure(self, console: Console) -> Iterator[Row]:
        for network, size, task, ours in self._cases():
            load = workload(network, size)
            programs = task.programs(load, ours)
            times = self.time(programs)
            for name in ours:
                with_dtnh = name != "no regularizer"
                yield compared(
                    f"{load.title}, {task.title}",
                    name,
                    task.reference,
                    times,
                    programs,
                    floor=task.floor if with_dtnh else None,
                    target=task.target if with_dtnh else None,
                    extra=_counted(programs[name], programs[task.reference]),
                )
            console.print(f"done: {load.title}, {task.title}")

    def tables(self, rows: Sequence[Row]) -> dict[str, Table]:
        return {"training step": comparison.table(rows, ["FLOPs ratio"])}

    def _cases(self) -> list[Case]:
        names = ("tiny",) if self.quick else self.networks
        sizes = {name: self._size(name) for name in names}
        cases: list[Case] = [
            (name, sizes[name], task, EVERY if task is L2_SP else USUAL)
            for name in names
            for task in TASKS[name]
        ]
        if SWEPT in names:
            cases += [
                (SWEPT, dataclasses.replace(sizes[SWEPT], batch=batch), task, USUAL)
                for batch in self.sweep
                for task in (L2_SP, LAST_MAP)
            ]
        return cases

    def _size(self, network: str) -> Size:
        usual = models.find(network).size()
        return Size(self.pixels or usual.pixels, self.batch or usual.batch)


def _counted(ours: Program, reference: Program) -> dict[str, float | None]:
    """What XLA says of the compiled steps, the same in every run; None if nothing."""
    flops, without = _flops(ours), _flops(reference)
    memory = ours.executable.memory_analysis()
    return {
        "FLOPs ratio": flops / without if flops and without else None,
        "GFLOPs": flops / 1e9 if flops else None,
        "result MB": memory and memory.output_size_in_bytes / 1e6,
    }


def _flops(program: Program) -> float | None:
    return (program.executable.cost_analysis() or {}).get("flops")
