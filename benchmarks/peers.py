"""DTNH and methods for several losses in PyTorch, each against its own plain step.

ResNet-18, SGD with momentum, L2-SP and distillation of the last feature map, the
teacher's map computed beforehand. In PyTorch, which runs without `torch.compile`: one
backward pass of the sum, TorchJD (`autojac.backward`, `jac_to_grad`) with four of its
aggregators, and PCGrad written by hand with two backward passes. In JAX: the sum, and
`dtnh`. The plain step of JAX adds L2-SP's gradient by hand, that of PyTorch has
autograd do it. PyTorch runs first, in a process of its own.

A ratio says what the two gradients and their combination cost within one framework.
The milliseconds do not compare the frameworks: the layouts of images differ, and
neither is tuned.
"""

import dataclasses
import importlib.util
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks import comparison
from benchmarks.benchmark import Timed
from benchmarks.comparison import compared
from benchmarks.process import printed
from benchmarks.programs.models import Size
from benchmarks.programs.tasks import L2_SP, LAST_MAP, Task
from benchmarks.programs.workload import workload
from benchmarks.records import Row
from benchmarks.tables import Table
from experiments.errors import InputError

OURS = ("dtnh, global", "dtnh, layer")


@dataclasses.dataclass(frozen=True)
class Peers(Timed):
    """Time dtnh() and TorchJD, each against the plain step; about five minutes."""

    name = "peers"

    pixels: int = 96
    """Height and width of the images."""
    batch: int = 8
    """Images in a batch."""
    seconds: float = 40.0
    """Time for the calls of each framework and regularizer, all methods together."""

    def measure(self, console: Console) -> Iterator[Row]:
        """As in every benchmark.

        Raises:
          InputError: if PyTorch or TorchJD is not installed.
        """
        check_installed()
        size = Size(32, 2) if self.quick else Size(self.pixels, self.batch)
        found = self._in_torch(size)
        console.print("done: PyTorch")
        for task in (L2_SP, LAST_MAP):
            yield from _torch_rows(task, found["times"][task.title], found["versions"])
            yield from self._in_jax(task, size)

    def tables(self, rows: Sequence[Row]) -> dict[str, Table]:
        return {"peers": comparison.table(rows)}

    def _in_torch(self, size: Size) -> dict[str, Any]:
        seconds, least = self.repetitions
        options = {**dataclasses.asdict(size), "seconds": seconds, "least": least}
        module = "benchmarks.programs.torch_steps"
        return json.loads(printed("-m", module, json.dumps(options)))

    def _in_jax(self, task: Task, size: Size) -> Iterator[Row]:
        load = workload("resnet18", size)
        programs = task.programs(load, OURS)
        times = self.time(programs)
        for name in OURS:
            yield compared(
                f"{task.title}, JAX",
                name,
                task.reference,
                times,
                programs,
                floor=task.floor,
                target=task.target,
                extra={"framework": "JAX"},
            )


def check_installed() -> None:
    """Raises InputError if a package of the extra "peers" is missing."""
    needed = ("torch", "torchjd", "qpsolvers", "quadprog")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"the benchmark peers needs {', '.join(missing)}, not installed here; "
            "install with: pip install -e '.[peers]'"
        )


def _torch_rows(
    task: Task, seconds: dict[str, list[float]], versions: dict[str, str]
) -> Iterator[Row]:
    """Of what ran in PyTorch, which compiles nothing and says nothing of its memory."""
    times = {name: np.array(x) for name, x in seconds.items()}
    reference, *others = times
    for name in others:
        yield compared(
            f"{task.title}, PyTorch",
            name,
            reference,
            times,
            extra={"framework": "PyTorch", **versions},
        )
