"""The whole training step with DTNH, beside the same regularizer without it.

L2-SP: `chain(l2_sp, dtnh, optimizer)` against the same gradient and `alpha * (w - w0)`,
added by hand. Distillation: `pair_value_and_grad` and `dtnh` against one backward pass
of the sum of loss and penalty. Two gradients take two backward passes, and a backward
pass costs about twice the forward pass: 5/3 of the joint step is the floor where the
teacher's outputs are computed beforehand, 3/2 where its forward pass is in both steps.
A penalty on early maps does not go back through the layers behind them and costs less.

Forward, backward, optimizer and BatchNorm statistics are one jitted function, to which
the pretrained parameters are arguments, and which is given back its own parameters and
optimizer state, donated. Images are noise; ResNets train with SGD and momentum, the
vision transformer with AdamW. FLOPs are XLA's count for the compiled step, the same in
every run. The sweep over batches shows when work on parameters, which does not grow
with the batch, stops to matter: it is what L2-SP costs more with DTNH, and it shows
where a network is large and the batch small, as with the ResNets here.
"""

import dataclasses
from pathlib import Path

from rich.console import Console

from benchmarks import models, results, tables, training
from benchmarks.models import Model, Size
from benchmarks.results import FOLDER, Row, compared
from benchmarks.timing import Program, interleaved

EXTRA = ("FLOPs ratio",)


@dataclasses.dataclass(frozen=True)
class Task:
    """A regularizer, the step it is compared with, and what the ratio may be.

    ``penalty`` is a key of ``training.PENALTIES``; None is L2-SP.
    """

    title: str
    reference: str
    floor: float
    target: float
    penalty: str | None = None
    teacher_in_step: bool = False

    def steps(
        self, model: Model, network: training.Network
    ) -> dict[str, training.TrainStep]:
        if self.penalty is None:
            return training.l2_sp_steps(network, model.optimizer())
        return training.distillation_steps(
            network,
            model.optimizer(),
            training.PENALTIES[self.penalty],
            teacher_in_step=self.teacher_in_step,
        )


def _distillation(title: str, penalty: str) -> Task:
    return Task(title, "joint loss", 5 / 3, 1.70, penalty)


L2_SP = Task("L2-SP", "by hand", 1.00, 1.03)
LAST = _distillation("last map", "last map")
LIVE = Task("last map, teacher", "joint loss", 3 / 2, 1.53, "last map", True)
ALL = _distillation("all maps", "all maps")
LOGITS = _distillation("logits", "logits")

TASKS: dict[str, tuple[Task, ...]] = {
    "resnet18": (L2_SP, LAST, LIVE, ALL, LOGITS),
    "resnet50": (L2_SP, LAST),
    "vit": (L2_SP, LAST, LIVE, LOGITS),
    "tiny": (L2_SP, LIVE),
}
SWEPT = "vit"


@dataclasses.dataclass(frozen=True)
class Step:
    """Time whole training steps with dtnh() and without; about eight minutes."""

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
    least: int = 7
    """Repetitions, even where they take longer than that."""
    quick: bool = False
    """A tiny network and three repetitions: to see whether it runs."""
    out: Path = FOLDER
    """Folder for the results."""

    def run(self, console: Console) -> Path:
        """Measures, prints a table and writes JSON; returns its path."""
        rows = []
        for case in self._cases():
            rows += self._measure(*case)
            console.print(f"done: {rows[-1].case}")
        headings, cells = tables.comparison(rows, EXTRA)
        console.print(tables.terminal("training step", headings, cells))
        return results.write("step", self, rows, self.out)

    def _cases(self) -> list[tuple[str, Size, Task, list[str]]]:
        """Network, size, task, and which of the task's steps to time."""
        names = ("tiny",) if self.quick else self.networks
        swept, batches = SWEPT, () if self.quick else self.sweep
        sizes = {name: models.find(name).size() for name in (*names, swept)}
        change = {
            field: value
            for field in ("pixels", "batch")
            if (value := getattr(self, field)) is not None
        }
        sizes = {name: dataclasses.replace(s, **change) for name, s in sizes.items()}
        ours = {L2_SP: ("no regularizer", "dtnh, global", "dtnh, layer")}
        usual = ("dtnh, global",)
        return [
            (name, sizes[name], task, [task.reference, *ours.get(task, usual)])
            for name in names
            for task in TASKS[name]
        ] + [
            (swept, Size(sizes[swept].pixels, n), task, [task.reference, *usual])
            for n in batches
            for task in (L2_SP, LAST)
            if swept in names
        ]

    def _measure(
        self, name: str, size: Size, task: Task, wanted: list[str]
    ) -> list[Row]:
        model = models.find(name)
        network = models.network(model, size.pixels)
        inputs = models.inputs(network, size)
        steps = task.steps(model, network)
        programs = {
            key: Program(
                steps[key], models.start(steps[key], network), inputs, donated=1
            )
            for key in wanted
        }
        seconds, least = (0.0, 3) if self.quick else (self.seconds, self.least)
        times = interleaved(programs, seconds=seconds, least=least)
        where = f"{model.title}, {size.pixels} px, batch {size.batch}"
        return [
            compared(
                f"{where}, {task.title}: {key}",
                key,
                task.reference,
                programs,
                times,
                floor=task.floor if key.startswith("dtnh") else None,
                target=task.target if key.startswith("dtnh") else None,
                extra=_counted(programs[key], programs[task.reference]),
            )
            for key in wanted
            if key != task.reference
        ]


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
