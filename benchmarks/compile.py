"""How long an update takes to compile, and the memory that it needs.

Arrays are those of a convolutional network: layers of a kernel, a bias, and the scale
and bias of a norm, in float32. The pair form is `dtnh` on two gradients that are ready,
compared with their plain weighted sum; the steady rule is
`chain(mix_regularizers(l2_sp(), l2()), dtnh_adamw(lr))`, compared with
`optax.adamw(lr)`. All of one size are compiled in turn, in one process, several times
over: each time a new function is traced and lowered, then compiled by XLA, without a
persistent cache. Medians are given; programs that take long are compiled fewer times.
The compile ratio is that of the sums of both times. The exponent p is of a fit,
seconds ~ arrays^p: 1 is linear growth.

Temporaries are what XLA sets aside besides arguments and results, as a share of the
parameters: for the networks above and for the arrays of ResNet-50.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from rich.console import Console

from benchmarks.benchmark import Timed
from benchmarks.programs import shapes, updates
from benchmarks.programs.shapes import Shapes
from benchmarks.records import Row
from benchmarks.scaling import exponent
from benchmarks.tables import Table, number, spread
from benchmarks.timing import Program, quartiles, ratio

TARGET = 12.0
GRANULARITIES = ("global", "layer", "leaf")
Build = Callable[[], Program]


class Case(NamedTuple):
    """What is compared with what: the name of a reference, and ours by name."""

    form: updates.Form
    reference: str
    ours: Mapping[str, dict[str, Any]]


CASES = {
    "pair": Case(
        updates.PAIR, "sum", {name: {"granularity": name} for name in GRANULARITIES}
    ),
    "steady": Case(updates.STEADY, "adamw", {"steady rule": {}}),
}
RESNET50 = {
    **CASES,
    "L2-SP": Case(updates.L2_SP, "sum", {"global": {}}),
}


@dataclasses.dataclass(frozen=True)
class Compile(Timed):
    """Compile time and temporaries of an update; about four minutes."""

    name = "compile"

    arrays: tuple[int, ...] = (100, 316, 1000)
    """Numbers of arrays."""
    compilations: int = 3
    """How often each program is compiled,"""
    patience: float = 35.0
    """unless that takes longer than this for all programs of a size and form, in s."""
    seconds: float = 2.0
    """Time for the calls of all programs of one size and form."""

    def measure(self, console: Console) -> Iterator[Row]:
        for n in (8, 16) if self.quick else self.arrays:
            for name, case in CASES.items():
                yield from self._timed(n, name, case)
                console.print(f"done: {n} arrays, {name}")
        tiny = {"layer/kernel": (8, 8), "layer/bias": (8,)}
        network = ("tiny", tiny) if self.quick else ("ResNet-50", shapes.resnet50())
        for dtype in (np.dtype(jnp.float32), np.dtype(jnp.bfloat16)):
            for name, case in RESNET50.items():
                yield from _temporaries(*network, dtype, name, case)
            console.print(f"done: {network[0]}, {dtype}")

    def tables(self, rows: Sequence[Row]) -> dict[str, Table]:
        return {
            "compile time": compile_times(rows),
            "growth": growth(rows),
            "temporaries": temporaries(rows),
        }

    def _timed(self, n: int, name: str, case: Case) -> Iterator[Row]:
        builds = _builds(shapes.layers(n), np.dtype(np.float32), case)
        rounds: list[dict[str, Program]] = []
        began = time.perf_counter()
        while not rounds or (
            len(rounds) < (1 if self.quick else self.compilations)
            and time.perf_counter() - began < self.patience
        ):
            rounds.append({key: build() for key, build in builds.items()})
        programs = rounds[-1]
        trace, xla = (
            {key: np.array([getattr(x[key], what) for x in rounds]) for key in builds}
            for what in ("trace_seconds", "compile_seconds")
        )
        calls = self.time(programs)
        for ours in case.ours:
            sides = {"ours": ours, "reference": case.reference}
            whole = {side: trace[key] + xla[key] for side, key in sides.items()}
            yield {
                "network": f"{n:,} arrays",
                "form": name,
                **sides,
                "arrays": n,
                "compile_ratio": ratio(whole["ours"], whole["reference"]),
                "trace_s": {s: float(np.median(trace[k])) for s, k in sides.items()},
                "xla_s": {s: float(np.median(xla[k])) for s, k in sides.items()},
                "compilations": len(rounds),
                "ms": {s: quartiles(1e3 * calls[k]) for s, k in sides.items()},
                "ratio": ratio(calls[ours], calls[case.reference]),
                "repetitions": len(calls[ours]),
                "temporaries": {
                    s: _share(programs[k], shapes.layers(n), np.dtype(np.float32))
                    for s, k in sides.items()
                },
                "target": TARGET,
            }


def _temporaries(
    network: str, sizes: Shapes, dtype: np.dtype, name: str, case: Case
) -> Iterator[Row]:
    shares = {
        key: _share(build(), sizes, dtype)
        for key, build in _builds(sizes, dtype, case).items()
    }
    for ours in case.ours:
        yield {
            "network": f"{network}, {dtype}",
            "form": name,
            "ours": ours,
            "reference": case.reference,
            "arrays": len(sizes),
            "temporaries": {"ours": shares[ours], "reference": shares[case.reference]},
        }


def _builds(sizes: Shapes, dtype: np.dtype, case: Case) -> dict[str, Build]:
    """Each program by name, to be compiled anew whenever it is called for."""
    trees = [shapes.random(sizes, seed, dtype) for seed in range(case.form.trees)]

    def ours(options: dict[str, Any]) -> Build:
        return lambda: case.form.ours(*trees, **options)

    return {
        case.reference: lambda: case.form.plain(*trees),
        **{name: ours(options) for name, options in case.ours.items()},
    }


def _share(program: Program, sizes: Shapes, dtype: np.dtype) -> float | None:
    """Temporaries as a share of the parameters; None where XLA does not say."""
    temporary = program.temporary_mb
    parameters = 1e-6 * shapes.size(sizes) * dtype.itemsize
    return None if temporary is None else temporary / parameters


def is_timed(row: Row) -> bool:
    return "compile_ratio" in row


def compile_times(rows: Sequence[Row]) -> Table:
    """A line for each size and program; "ours / reference" where there are two."""
    headings = ["arrays", "update", "reference", "compile ratio", "target"]
    headings += ["trace s", "XLA s", "run ratio", "ms"]
    cells = []
    for row in filter(is_timed, rows):
        medians = {side: row["ms"][side]["median"] for side in row["ms"]}
        cells.append(
            [
                f"{row['arrays']:,}",
                f"{row['form']}, {row['ours']}",
                row["reference"],
                spread(row["compile_ratio"]),
                number(row["target"], ".0f"),
                _sides(row["trace_s"]),
                _sides(row["xla_s"]),
                spread(row["ratio"]),
                _sides(medians),
            ]
        )
    return Table(headings, cells)


def growth(rows: Sequence[Row]) -> Table:
    """The exponent of seconds to trace and compile against the number of arrays."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for row in filter(is_timed, rows):
        for side in ("ours", "reference"):
            seconds = row["trace_s"][side] + row["xla_s"][side]
            found.setdefault((row["form"], row[side]), {})[row["arrays"]] = seconds
    cells = []
    for (form, what), seconds in found.items():
        n, values = np.array(list(seconds)), np.array(list(seconds.values()))
        ends = [f"{number(values[i])} at {n[i]:,}" for i in (0, -1)]
        cells.append([f"{form}, {what}", *ends, number(exponent(n, values), ".2f")])
    return Table(["update", "first, s", "last, s", "exponent"], cells)


def temporaries(rows: Sequence[Row]) -> Table:
    """A line for each network and program."""
    return Table(
        ["arrays", "update", "reference", "temporaries / parameters"],
        [
            [
                row["network"],
                f"{row['form']}, {row['ours']}",
                row["reference"],
                _sides(row["temporaries"], ".3f"),
            ]
            for row in rows
        ],
    )


def _sides(values: Mapping[str, float | None], form: str = ".3g") -> str:
    return " / ".join(number(values[side], form) for side in ("ours", "reference"))
