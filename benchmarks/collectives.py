"""What `dtnh` adds to the communication of a sharded training step.

The whole step of a network with 24 arrays is compiled for virtual CPU devices, once
with the L2-SP gradient added by hand and once with `chain(l2_sp, dtnh)` in its place,
and the collectives in both programs are counted. The promise: at most one all-reduce
more, of at most 16 bytes a group, and nothing else.

Layouts: `data-parallel`, parameters on every device; `fully sharded`, every array split
along its largest axis that divides; `tensor-parallel`, kernels split along the columns
and along the rows in turn, over one axis of a mesh of two, the batch over the other. An
operation with many operands counts as one, and one in a branch counts, taken or not.
Bytes are those of its results, on one device. The CPU's compiler is not a GPU's, which
for example makes all-reduce and slice one reduce-scatter.

Where the promise is broken, it is by the sums of each array over the devices, which
stand in the program before the arrays' sums are added up; the CPU's compiler does not
exchange the two. Most of them it merges with the all-reduces of gradients, which then
no longer travel in one. Half of the operands are in a branch that is taken only where a
norm is tiny.
"""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import results, tables
from benchmarks.results import FOLDER

LAYOUTS = ("data-parallel", "fully sharded", "tensor-parallel")
BYTES_A_GROUP = 16


@dataclasses.dataclass(frozen=True)
class Collectives:
    """Count collectives in a sharded step with dtnh() and without."""

    devices: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Numbers of virtual CPU devices."""
    quick: bool = False
    """Four devices and two layers only."""
    out: Path = FOLDER
    """Folder for the results."""

    def run(self, console: Console) -> Path:
        """Counts, prints a table and writes JSON; returns its path."""
        rows = []
        layers = 2 if self.quick else 12
        for count in (4,) if self.quick else self.devices:
            rows += _on(count, layers)
            console.print(f"done: {count} devices")
        console.print(tables.terminal("collectives added", *table(rows)))
        return results.write("collectives", self, rows, self.out)


def _on(devices: int, layers: int) -> list[dict[str, Any]]:
    """The rows for one number of devices, from a process of its own.

    JAX reads the number once, when it starts.
    """
    flags = f"--xla_force_host_platform_device_count={devices}"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "benchmarks.sharded_step", str(layers)]
    done = subprocess.run(command, env=env, cwd=results.ROOT, stdout=subprocess.PIPE)
    done.check_returncode()
    return json.loads(done.stdout)


def added(row: dict[str, Any]) -> dict[str, dict[str, int]]:
    """By kind: operations, operands and bytes with DTNH less those without."""
    ours, without = row["collectives"], row["collectives_without"]
    return {
        kind: {what: n - without[kind][what] for what, n in counts.items()}
        for kind, counts in ours.items()
        if counts != without[kind]
    }


def kept(row: dict[str, Any]) -> bool:
    """Whether the promise holds: one more all-reduce at most, and a small one."""
    more = dict(added(row))
    reduce = more.pop("all-reduce", {"operations": 0, "bytes": 0})
    small = reduce["bytes"] <= BYTES_A_GROUP * row["groups"]
    return not more and reduce["operations"] <= 1 and small


def table(rows: list[dict[str, Any]]) -> tuple[list[str], tables.Cells]:
    """Headings and cells: one row a layout and granularity that share their result."""
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
            "kept" if kept(row) else "broken",
        )
        merged.setdefault(cells, []).append(str(row["devices"]))
    headings = ["layout", "granularity", "groups", "added by DTNH", "promise"]
    headings.insert(1, "devices")
    body = [[c[0], ", ".join(n), *c[1:]] for c, n in merged.items()]
    return headings, sorted(body, key=lambda cells: LAYOUTS.index(cells[0]))
