"""How long `import dtnh_jax` takes, compared with `import optax`, which it includes.

Each import runs in a fresh process and is timed inside it, so that Python's own start
does not count. A repetition runs both, in random order; before the first, each has run
once, so that bytecode is compiled and files are in the system's cache. Modules are
those in `sys.modules` afterwards.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.benchmark import Benchmark
from benchmarks.process import printed
from benchmarks.records import Row
from benchmarks.tables import Table, number, spread
from benchmarks.timing import quartiles, ratio

OURS, REFERENCE = "dtnh_jax", "optax"
TARGET = 1.1

TIMED = """
import sys, time
began = time.perf_counter()
import {}
print(time.perf_counter() - began, len(sys.modules))
"""


@dataclasses.dataclass(frozen=True)
class ImportTime(Benchmark):
    """Time the import of dtnh_jax and that of optax."""

    name = "import_time"

    repetitions: int = 25
    """Fresh processes for each of the two."""

    def measure(self, console: Console) -> Iterator[Row]:
        yield measured(3 if self.quick else self.repetitions)

    def tables(self, rows: Sequence[Row]) -> dict[str, Table]:
        return {"import": table(rows)}


def measured(repetitions: int) -> dict[str, Any]:
    """The row: milliseconds and modules of both, and the ratio of the times."""
    names = (OURS, REFERENCE)
    modules = {name: imported(name)[1] for name in names}
    order = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repetitions):
        for name in order.permutation(names):
            seconds[name].append(imported(name)[0])
    ours, reference = np.array(seconds[OURS]), np.array(seconds[REFERENCE])
    return {
        "ours": OURS,
        "reference": REFERENCE,
        "ratio": ratio(ours, reference),
        "ours_ms": quartiles(1e3 * ours),
        "reference_ms": quartiles(1e3 * reference),
        "repetitions": repetitions,
        "modules": modules,
        "target": TARGET,
    }


def imported(name: str) -> tuple[float, int]:
    """Seconds that the import of ``name`` takes in a fresh process, and modules."""
    seconds, modules = printed("-c", TIMED.format(name)).split()
    return float(seconds), int(modules)


def table(rows: Sequence[Row]) -> Table:
    """One line; times and modules of both side by side."""
    headings = ["import", "reference", "ratio", "target", "ms", "modules"]
    cells = [
        [
            row["ours"],
            row["reference"],
            spread(row["ratio"]),
            number(row["target"], ".2f"),
            f"{row['ours_ms']['median']:.0f} / {row['reference_ms']['median']:.0f}",
            f"{row['modules'][row['ours']]} / {row['modules'][row['reference']]}",
        ]
        for row in rows
    ]
    return Table(headings, cells)
