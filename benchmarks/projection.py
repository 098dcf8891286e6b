"""Combining two gradients that are ready: `dtnh` and their plain weighted sum.

The sum of two trees of N numbers reads 2N and writes N. DTNH must read all of both
before it can write the first number: it reads them twice, 5N in all, so that the floor
is 5/3 of the sum's time. After `l2_sp` the regularizer gradient is computed from the
parameters and the pretrained ones: 7N against 4N. With `reference_decay` the moving
average is also read twice and written once.

Timed on the shapes of real networks, in one jitted call of `update`, whose result and
state replace those of the last call, as in training. GB/s are the floor's bytes over
the time; copy (2N) and triad (3N, `a + 0.1 * b`) of one array of the same bytes, timed
in between, show what the machine provides.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from benchmarks import comparison
from benchmarks.benchmark import Timed
from benchmarks.comparison import compared
from benchmarks.programs import shapes, updates
from benchmarks.programs.shapes import Shapes
from benchmarks.records import Row
from benchmarks.tables import Table
from benchmarks.timing import Program, device_peak_mb

NETWORKS = {
    "ResNet-50": shapes.resnet50(),
    "ViT-B/16": shapes.vit_b16(),
    "GPT-2": shapes.gpt2(),
}
TINY = {"tiny": {"layer0/kernel": (8, 8), "layer0/bias": (8,), "layer1/bias": (8,)}}
RULES = {
    "global": {},
    "layer": {"granularity": "layer"},
    "leaf": {"granularity": "leaf"},
    "max_ratio": {"max_ratio": 0.3},
    "reference_decay": {"reference_decay": 0.9},
    "drop": {"on_conflict": "drop"},
}
USUAL = ("global", "layer")
FORMS = {"pair": updates.PAIR, "L2-SP": updates.L2_SP}
# What the ratio of the pair form is to stay below.
CPU_TARGETS = {"float32": 2.0, "bfloat16": 3.0}
ACCELERATOR_TARGETS = {"float32": 1.1}


@dataclasses.dataclass(frozen=True)
class Projection(Timed):
    """Time dtnh() on two ready gradients against their plain weighted sum."""

    name = "projection"

    seconds: float = 6.0
    """Time for the calls of each network, dtype and form, all rules together."""
    least: int = 10
    thorough: bool = False
    """Every rule for every dtype and form, not for float32 pairs only; compiling them
    takes twice the time."""

    def measure(self, console: Console) -> Iterator[Row]:
        for network, sizes in (TINY if self.quick else NETWORKS).items():
            for dtype in (np.dtype(jnp.float32), np.dtype(jnp.bfloat16)):
                for form in FORMS:
                    where = f"{network}, {dtype}, {form}"
                    yield from self._compare(where, sizes, dtype, form)
                    console.print(f"done: {where}")

    def tables(self, rows: Sequence[Row]) -> dict[str, Table]:
        return {"projection": comparison.table(rows)}

    def _compare(
        self, where: str, sizes: Shapes, dtype: np.dtype, form: str
    ) -> Iterator[Row]:
        every = self.thorough or (dtype == np.float32 and form == "pair")
        rules = ("global",) if self.quick else tuple(RULES) if every else USUAL
        programs = _programs(sizes, dtype, form, rules)
        times = self.time(programs)
        gigabytes = shapes.size(sizes) * dtype.itemsize / 1e9

        def speed(name: str, arrays: float) -> float:
            return arrays * gigabytes / float(np.median(times[name]))

        for rule in rules:
            yield compared(
                where,
                rule,
                "sum",
                times,
                programs,
                floor=moved(form, rule, dtype) / moved(form, "sum", dtype),
                target=target(form, rule, dtype),
                extra={
                    "GB/s": speed(rule, moved(form, rule, dtype)),
                    "sum GB/s": speed("sum", moved(form, "sum", dtype)),
                    "copy GB/s": speed("copy", 2),
                    "triad GB/s": speed("triad", 3),
                    "device peak MB": device_peak_mb(),
                    "arrays": len(sizes),
                    "numbers": shapes.size(sizes),
                },
            )


def moved(form: str, rule: str, dtype: np.dtype) -> float:
    """Fewest arrays like a gradient that have to be read and written."""
    trees = FORMS[form].trees
    if rule == "sum":
        return trees + 1
    average = max(dtype.itemsize, 4) / dtype.itemsize
    return 2 * trees + 1 + 3 * average * (rule == "reference_decay")


def target(form: str, rule: str, dtype: np.dtype) -> float | None:
    """What the ratio is to stay below on this machine; None where there is no goal."""
    if form != "pair" or rule == "reference_decay":
        return None
    on_cpu = jax.default_backend() == "cpu"
    return (CPU_TARGETS if on_cpu else ACCELERATOR_TARGETS).get(dtype.name)


def _programs(
    sizes: Shapes, dtype: np.dtype, form: str, rules: Sequence[str]
) -> dict[str, Program]:
    """The rules, the sum, and what the machine gives for one array of these bytes."""
    plain, ours = FORMS[form].plain, FORMS[form].ours
    trees = [shapes.random(sizes, seed, dtype) for seed in range(FORMS[form].trees)]
    a, b = jnp.ones((2, shapes.size(sizes) * dtype.itemsize // 4), jnp.float32)
    return {
        "copy": Program(lambda out, a: (-a,), a, a, donated=1),
        "triad": Program(lambda out, a, b: (a + 0.1 * b,), a, a, b, donated=1),
        "sum": plain(*trees),
        **{rule: ours(*trees, **RULES[rule]) for rule in rules},
    }
