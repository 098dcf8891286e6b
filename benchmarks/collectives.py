"""What `dtnh` adds to the communication of a sharded training step.

The whole step of a network with 24 arrays is compiled for virtual CPU devices, once
with the L2-SP gradient added by hand and once with `chain(l2_sp, dtnh)` in its place,
and the collectives in both programs are counted. The goal: at most one more all-reduce,
of at most 16 bytes per group, and no other collective.

Layouts: `data-parallel`, parameters on every device; `fully sharded`, every array split
along its largest axis that divides; `tensor-parallel`, kernels split along the columns
and along the rows in turn, over one axis of a mesh of two, the batch over the other. An
operation with many operands counts as one. Bytes are those of its results, on one
device. The CPU's compiler differs from a GPU's, which for example fuses all-reduce and
slice into reduce-scatter.

Where the goal is missed, it is because each array's three inner products are summed
over the devices before those of all arrays are added up: the CPU's compiler does not
exchange the two, nor does it merge all of these small all-reduces into one.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence

from rich.console import Console

from benchmarks.benchmark import Benchmark
from benchmarks.process import printed
from benchmarks.programs.sharded_step import LAYOUTS
from benchmarks.records import Row
from benchmarks.tables import Table

BYTES_PER_GROUP = 16


@dataclasses.dataclass(frozen=True)
class Collectives(Benchmark):
    """Count collectives in a sharded step with dtnh() and without."""

    name = "collectives"

    devices: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Numbers of virtual CPU devices."""

    def measure(self, console: Console) -> Iterator[Row]:
        layers = 2 if self.quick else 12
        for count in (4,) if self.quick else self.devices:
            # JAX reads the number once, when it starts.
            rows = printed(
                *("-m", "benchmarks.programs.sharded_step", str(layers)),
                XLA_FLAGS=f"--xla_force_host_platform_device_count={count}",
                JAX_PLATFORMS="cpu",
            )
            yield from json.loads(rows)
            console.print(f"done: {count} devices")

    def tables(self, rows: Sequence[Row]) -> dict[str, Table]:
        return {"collectives added": table(rows)}


def added(row: Row) -> dict[str, dict[str, int]]:
    """By kind: operations, operands and bytes with DTNH less those without."""
    ours, without = row["collectives"], row["collectives_without"]
    return {
        kind: {what: n - without[kind][what] for what, n in counts.items()}
        for kind, counts in ours.items()
        if counts != without[kind]
    }


def kept(row: Row) -> bool:
    """Whether the goal is met: at most one more all-reduce, and a small one."""
    more = dict(added(row))
    reduce = more.pop("all-reduce", {"operations": 0, "bytes": 0})
    small = reduce["bytes"] <= BYTES_PER_GROUP * row["groups"]
    return not more and reduce["operations"] <= 1 and small


def table(rows: Sequence[Row]) -> Table:
    """A line for each layout and granularity that share their result."""
    merged: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        changes = [
            f"{c['operations']:+d} {kind} ({c['operands']:+d} operands, "
            f"{c['bytes']:+,} bytes)"
            for kind, c in added(row).items()
        ]
        cells = (
            row["layout"],
            row["granularity"],
            str(row["groups"]),
            "; ".join(changes) or "none",
            "met" if kept(row) else "missed",
        )
        merged.setdefault(cells, []).append(str(row["devices"]))
    return Table(
        ["layout", "devices", "granularity", "groups", "added by DTNH", "goal"],
        sorted(
            ([layout, ", ".join(n), *rest] for (layout, *rest), n in merged.items()),
            key=lambda cells: LAYOUTS.index(cells[0]),
        ),
    )
