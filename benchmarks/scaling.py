"""How the cost of `dtnh` grows with numbers, arrays and groups.

Beside the plain weighted sum of the same two gradients, in float32: milliseconds of a
call of `update`, and seconds of tracing with lowering and of compiling, which are paid
once. Numbers vary with 30 arrays; arrays with 10 million numbers in all; groups with
both fixed, at 100 arrays. The exponent p of a fit, cost ~ n^p, is over the last two
decades: 1 is linear growth. An axis ends where compiling takes too long to wait for.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from benchmarks import results, shapes, tables
from benchmarks.results import FOLDER
from benchmarks.timing import Program, interleaved, quartiles
from dtnh_jax import GradientPair, dtnh

WEIGHT = 0.1
COSTS = {"ms": "update", "trace_s": "trace and lower", "compile_s": "compile"}

# Value on the axis, shapes, and the divisions into groups: known ones, or a number.
Point = tuple[int, shapes.Shapes, tuple[int | str, ...]]


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Cost of dtnh() against numbers of parameters, arrays and groups."""

    seconds: float = 3.0
    """Time for the calls of each size."""
    largest: int | None = None
    """Most numbers; by default 10^8 on a CPU and 10^9 elsewhere."""
    most_arrays: int = 10_000
    """Most arrays."""
    patience: float = 20.0
    """An axis ends at the first size that takes longer than this to compile, in s."""
    quick: bool = False
    """Two small sizes of each and three repetitions, to see whether it runs."""
    out: Path = FOLDER
    """Folder for the results."""

    def run(self, console: Console) -> Path:
        """Measures, prints a table and writes JSON; returns its path."""
        rows = []
        for axis, points in self._axes().items():
            for n, sizes, divisions in points:
                began = time.perf_counter()
                found = self._measure(axis, n, sizes, divisions)
                rows += found
                console.print(f"done: {n} {axis}, {time.perf_counter() - began:.0f} s")
                if (
                    sum(row["trace_s"] + row["compile_s"] for row in found)
                    > self.patience
                ):
                    break
        for cost in COSTS:
            console.print(tables.terminal(COSTS[cost], *table(rows, cost)))
        return results.write("scaling", self, rows, self.out)

    def _axes(self) -> dict[str, list[Point]]:
        """What to measure on each axis, from small to large."""
        largest = self.largest or (10**8 if jax.default_backend() == "cpu" else 10**9)
        fixed, total, few = (4, 64, 2) if self.quick else (100, 10**7, 30)
        numbers = [100, 1000] if self.quick else _decades(10**5, largest)
        arrays = [2, 4] if self.quick else _decades(10, self.most_arrays)
        usual = ("layer",) if self.quick else ("global", "layer")
        return {
            "numbers": [(n, shapes.equal(few, n), usual) for n in numbers],
            "arrays": [(n, shapes.equal(n, total), usual) for n in arrays],
            "groups": [
                (n, shapes.equal(fixed, total), (n,)) for n in _decades(1, fixed)
            ],
        }

    def _measure(
        self, axis: str, n: int, sizes: shapes.Shapes, divisions: tuple[int | str, ...]
    ) -> list[dict[str, Any]]:
        g, r = (shapes.random(sizes, seed, jnp.float32) for seed in range(2))
        programs = {
            "sum": Program(_sum, g, g, r, donated=1),
            **{_name(by): _dtnh(by, g, r) for by in divisions},
        }
        seconds, least = (0.0, 3) if self.quick else (self.seconds, 5)
        times = interleaved(programs, seconds=seconds, least=least)
        return [
            {
                "axis": axis,
                "n": n,
                "what": name,
                "arrays": len(sizes),
                "numbers": shapes.size(sizes),
                "ms": quartiles(1e3 * times[name])._asdict(),
                "ratio": quartiles(times[name] / times["sum"])._asdict(),
                "trace_s": program.trace_seconds,
                "compile_s": program.compile_seconds,
                "temporary_mb": program.temporary_mb,
            }
            for name, program in programs.items()
        ]


def _decades(first: int, last: int) -> list[int]:
    """From first to last, two steps a decade."""
    steps = round(2 * np.log10(last / first))
    return [round(first * 10 ** (i / 2)) for i in range(steps + 1)]


def _sum(out, g, r):
    return (jax.tree.map(lambda g, r: g + WEIGHT * r, g, r),)


def _name(division: int | str) -> str:
    return "groups" if isinstance(division, int) else division


def _dtnh(division: int | str, g: Any, r: Any) -> Program:
    """``dtnh`` with a known granularity, or with that many groups of arrays."""
    granularity: Any = division
    if isinstance(division, int):
        leaves, treedef = jax.tree.flatten(g)
        granularity = treedef.unflatten(i % division for i in range(len(leaves)))
    tx = dtnh(WEIGHT, granularity=granularity)

    def update(out, state, g, r):
        return tx.update(GradientPair(empirical=g, regularizer=r), state)

    return Program(update, g, tx.init(g), g, r, donated=2)


def series(
    rows: list[dict[str, Any]], axis: str, what: str, cost: str
) -> tuple[np.ndarray, np.ndarray]:
    """Values on the axis and costs, both ``[points]``."""
    chosen = [row for row in rows if (row["axis"], row["what"]) == (axis, what)]
    values = [row["ms"]["median"] if cost == "ms" else row[cost] for row in chosen]
    return np.array([row["n"] for row in chosen]), np.array(values)


def exponent(n: np.ndarray, cost: np.ndarray) -> float | None:
    """Slope of log cost over log n in the last two decades; None for one point."""
    last = n >= n.max() / 100
    if last.sum() < 2:
        return None
    return float(np.polyfit(np.log(n[last]), np.log(cost[last]), 1)[0])


def lines(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Each pair of axis and what was measured on it, in order."""
    return list(dict.fromkeys((row["axis"], row["what"]) for row in rows))


def table(rows: list[dict[str, Any]], cost: str) -> tuple[list[str], tables.Cells]:
    """Headings and cells: the cost at the ends of each axis, and the exponent."""
    cells = []
    for axis, what in lines(rows):
        n, costs = series(rows, axis, what, cost)
        ends = [f"{tables.number(costs[i])} at {n[i]:,}" for i in (0, -1)]
        fit = tables.number(exponent(n, costs), ".2f")
        cells.append([axis, what, *ends, fit])
    unit = "ms" if cost == "ms" else "s"
    return ["axis", "what", f"first, {unit}", f"last, {unit}", "exponent"], cells
