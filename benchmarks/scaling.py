"""How the cost of `dtnh` grows with numbers, arrays and groups.

Compared with the plain weighted sum of the same two gradients, in float32:
milliseconds per call of `update`, and seconds of tracing with lowering and of
compiling, which are paid once. Numbers vary with 30 arrays; arrays with 10 million
numbers in all; groups with both fixed, at 100 arrays. The exponent p of a fit,
cost ~ n^p, is over the last two decades: 1 is linear growth. An axis ends where
compiling takes longer than 20 s.
"""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from benchmarks.benchmark import Timed
from benchmarks.programs import shapes
from benchmarks.programs.shapes import Shapes
from benchmarks.programs.updates import PAIR
from benchmarks.records import Row
from benchmarks.tables import Table, number
from benchmarks.timing import quartiles, ratio

COSTS = {"ms": "update", "trace_s": "trace and lower", "compile_s": "compile"}

# Value on the axis, shapes, and the divisions into groups: known ones, or a number.
Point = tuple[int, Shapes, tuple[int | str, ...]]


@dataclasses.dataclass(frozen=True)
class Scaling(Timed):
    """Cost of dtnh() against numbers of parameters, arrays and groups."""

    name = "scaling"

    seconds: float = 3.0
    """Time for the calls of each size."""
    least: int = 5
    largest: int | None = None
    """Most numbers; by default 10^8 on a CPU and 10^9 elsewhere."""
    most_arrays: int = 10_000
    """Most arrays."""
    patience: float = 20.0
    """An axis ends at the first size that takes longer than this to compile, in s."""

    def measure(self, console: Console) -> Iterator[Row]:
        for axis, points in self._axes().items():
            for n, sizes, divisions in points:
                began = time.perf_counter()
                rows = self._costs(axis, n, sizes, divisions)
                yield from rows
                console.print(f"done: {n} {axis}, {time.perf_counter() - began:.0f} s")
                waited = sum(row["trace_s"] + row["compile_s"] for row in rows)
                if waited > self.patience:
                    break

    def tables(self, rows: Sequence[Row]) -> dict[str, Table]:
        return {name: table(rows, cost) for cost, name in COSTS.items()}

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

    def _costs(
        self, axis: str, n: int, sizes: Shapes, divisions: tuple[int | str, ...]
    ) -> list[dict[str, Any]]:
        g, r = (shapes.random(sizes, seed, jnp.float32) for seed in range(2))
        programs = {"sum": PAIR.plain(g, r)}
        for division in divisions:
            name = "groups" if isinstance(division, int) else division
            programs[name] = PAIR.ours(g, r, granularity=_granularity(division, g))
        times = self.time(programs)
        return [
            {
                "axis": axis,
                "n": n,
                "what": name,
                "arrays": len(sizes),
                "numbers": shapes.size(sizes),
                "ms": quartiles(1e3 * times[name]),
                "ratio": ratio(times[name], times["sum"]),
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


def _granularity(division: int | str, g: Any) -> Any:
    """A known granularity as it is; for a number, that many groups of arrays."""
    if isinstance(division, str):
        return division
    leaves, treedef = jax.tree.flatten(g)
    return treedef.unflatten(i % division for i in range(len(leaves)))


def series(
    rows: Sequence[Row], axis: str, what: str, cost: str
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


def lines(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Each pair of axis and what was measured on it, in order."""
    return list(dict.fromkeys((row["axis"], row["what"]) for row in rows))


def table(rows: Sequence[Row], cost: str) -> Table:
    """The cost at the ends of each axis, and the exponent."""
    cells = []
    for axis, what in lines(rows):
        n, costs = series(rows, axis, what, cost)
        ends = [f"{number(costs[i])} at {n[i]:,}" for i in (0, -1)]
        fit = number(exponent(n, costs), ".2f")
        cells.append([axis, what, *ends, fit])
    unit = "ms" if cost == "ms" else "s"
    return Table(["axis", "what", f"first, {unit}", f"last, {unit}", "exponent"], cells)
