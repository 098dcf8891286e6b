"""DTNH and other methods for two gradients, each against its own plain step.

ResNet-18, SGD with momentum, with L2-SP or distillation of the last feature map; the
teacher's map is computed beforehand. In JAX: `dtnh`, the steady rule, the same
projection written naively over two long vectors, and Bloop's rule in Optax. Weight
decay and no regularizer are included as the usual alternatives. In PyTorch, without
`torch.compile`: TorchJD (`autojac.backward`, `jac_to_grad`) with four of its
aggregators, PCGrad by hand with two backward passes, and SPD, which takes back part of
the optimizer's step. PyTorch runs first, in its own process. It needs
`pip install -e '.[peers]'`, and is left out otherwise.

A ratio is the cost of a method within one framework. The plain step has one backward
pass of the sum; in JAX, it adds the gradient of L2-SP by hand. The milliseconds do not
compare the frameworks: their image layouts differ, and neither is tuned. Temporary MB
are those of XLA; for PyTorch, the peak of one step above the memory in use before it.
"""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import goals
from benchmarks.programs.networks import Network, Size
from benchmarks.programs.steps import distillation_steps, l2_sp_steps
from benchmarks.provenance import ROOT
from benchmarks.rows import Pair, Row, measured, row
from benchmarks.timing import quartiles, ratio

TITLE = "Compared with other implementations"
TABLES = {"L2-SP": "L2-SP: time.", "distillation": "Distillation: time."}
GROWTH: dict[str, tuple[str, ...]] = {}

NEEDED = ("torch", "torchjd", "qpsolvers", "quadprog")


def measure(quick: bool) -> Iterator[list[Row]]:
    """The rows of PyTorch, then those of JAX for each regularizer."""
    size = Size(32, 2) if quick else Size(96, 8)
    seconds = 0 if quick else 15
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"skipping the peers in PyTorch, which need {', '.join(missing)}")
    else:
        yield _in_torch(size, seconds)
    network = Network("ResNet-18", size)
    for task, plain, make, goal in (
        ("L2-SP", "by hand", l2_sp_steps, goals.L2_SP_STEP),
        ("distillation", "joint loss", distillation_steps, goals.DISTILLATION),
    ):
        steps = make(network)
        others = [name for name in steps if name != plain]
        pairs = [Pair(x, plain, goal if x == "dtnh" else None) for x in others]
        yield measured(steps, seconds=seconds).rows(task, "JAX", pairs)


def _in_torch(size: Size, seconds: float) -> list[Row]:
    options = {"pixels": size.pixels, "batch": size.batch, "seconds": seconds}
    command = [sys.executable, "-m", "benchmarks.programs.torch_steps"]
    done = subprocess.run(
        [*command, json.dumps(options)], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    found = json.loads(done.stdout)
    return [
        _torch_row(task, found["versions"], Pair(ours, plain), methods)
        for task, methods in found["tasks"].items()
        for plain, *others in [list(methods)]
        for ours in others
    ]


def _torch_row(task: str, case: str, pair: Pair, methods: dict[str, Any]) -> Row:
    times = {name: np.array(x["seconds"]) for name, x in methods.items()}
    figures = {
        "ms": {name: quartiles(1e3 * x)["median"] for name, x in times.items()},
        "temporary MB": {name: x["peak_mb"] for name, x in methods.items()},
    }
    return row(
        task, case, pair, ratio(times[pair.ours], times[pair.reference]), figures
    )
