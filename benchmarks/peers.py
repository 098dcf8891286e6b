"""DTNH beside methods for several losses in PyTorch, each against its own plain step.

ResNet-18, SGD with momentum, L2-SP and distillation of the last feature map, the
teacher's map computed beforehand. In PyTorch, which runs without `torch.compile`: one
backward pass of the sum, TorchJD (`autojac.backward`, `jac_to_grad`) with four of its
aggregators, and PCGrad written by hand with two backward passes. In JAX: the sum, and
`dtnh`. The plain step of JAX adds L2-SP's gradient by hand, that of PyTorch has
autograd do it. PyTorch runs first, in a process of its own.

A ratio says what the two gradients and their combination cost within one framework.
The milliseconds are not a comparison of the frameworks: the layouts of images differ,
and nobody tuned either.
"""

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks import models, results, step, tables
from benchmarks.models import Size
from benchmarks.results import FOLDER, ROOT, Row, compared
from benchmarks.timing import Program, interleaved, quartiles, ratio
from experiments.errors import InputError

TASKS = (step.L2_SP, step.LAST)
GRANULARITIES = ("dtnh, global", "dtnh, layer")


@dataclasses.dataclass(frozen=True)
class Peers:
    """Time dtnh() and TorchJD, each against the plain step; about five minutes."""

    pixels: int = 96
    """Height and width of the images."""
    batch: int = 8
    """Images in a batch."""
    seconds: float = 40.0
    """Time for the calls of each framework and regularizer, all methods together."""
    least: int = 7
    """Repetitions, even where they take longer than that."""
    quick: bool = False
    """Images of 32 pixels and three repetitions: to see whether it runs."""
    out: Path = FOLDER
    """Folder for the results."""

    def run(self, console: Console) -> Path:
        """Measures, prints a table and writes JSON; returns its path.

        Raises:
          InputError: if PyTorch or TorchJD is not installed.
        """
        check_installed()
        size = Size(32, 2) if self.quick else Size(self.pixels, self.batch)
        seconds, least = (0.0, 3) if self.quick else (self.seconds, self.least)
        found = _in_torch(size, seconds, least)
        console.print("done: PyTorch")
        rows = [
            row
            for task in TASKS
            for row in (
                *_rows(task, found["times"][task.title], found["versions"]),
                *_in_jax(task, size, seconds, least),
            )
        ]
        console.print(tables.terminal("peers", *tables.comparison(rows)))
        return results.write("peers", self, rows, self.out)


def check_installed() -> None:
    """Raises InputError if a package of the extra "peers" is missing."""
    needed = ("torch", "torchjd", "qpsolvers", "quadprog")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"the benchmark peers needs {', '.join(missing)}, not installed here; "
            "install with: pip install -e '.[peers]'"
        )


def _in_torch(size: Size, seconds: float, least: int) -> dict[str, Any]:
    options = {**dataclasses.asdict(size), "seconds": seconds, "least": least}
    command = [sys.executable, "-m", "benchmarks.peers_torch", json.dumps(options)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE)
    done.check_returncode()
    return json.loads(done.stdout)


def _rows(
    task: step.Task, times: dict[str, list[float]], versions: dict[str, str]
) -> list[Row]:
    """Of what ran in PyTorch, which compiles nothing and says nothing of its memory."""
    seconds = {name: np.array(x) for name, x in times.items()}
    reference = next(iter(seconds))
    nothing = {"ours": None, "reference": None}
    return [
        Row(
            case=f"{task.title}, PyTorch: {name}",
            ours=name,
            reference=reference,
            ratio=ratio(x, seconds[reference]),
            ours_ms=quartiles(1e3 * x),
            reference_ms=quartiles(1e3 * seconds[reference]),
            repetitions=len(x),
            compile_s=dict.fromkeys(nothing, 0.0),
            temporary_mb=dict(nothing),
            extra={"framework": "PyTorch", **versions},
        )
        for name, x in seconds.items()
        if name != reference
    ]


def _in_jax(task: step.Task, size: Size, seconds: float, least: int) -> list[Row]:
    model = models.find("resnet18")
    network = models.network(model, size.pixels)
    inputs = models.inputs(network, size)
    steps = task.steps(model, network)
    programs = {
        name: Program(
            steps[name], models.start(steps[name], network), inputs, donated=1
        )
        for name in (task.reference, *GRANULARITIES)
    }
    times = interleaved(programs, seconds=seconds, least=least)
    return [
        compared(
            f"{task.title}, JAX: {name}",
            name,
            task.reference,
            programs,
            times,
            floor=task.floor,
            target=task.target,
            extra={"framework": "JAX"},
        )
        for name in GRANULARITIES
    ]
