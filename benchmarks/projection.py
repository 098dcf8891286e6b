"""What an update costs: L2-SP with DTNH, without, and written by hand."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

from benchmarks import shapes
from benchmarks.timing import interleaved, machine
from dtnh_jax import dtnh, l2_sp

RULES = {
    "ignore": {"on_conflict": "ignore"},
    "global": {},
    "layer": {"granularity": "layer"},
    "leaf": {"granularity": "leaf"},
    "max_ratio": {"max_ratio": 0.3},
    "reference_decay": {"reference_decay": 0.9},
}


@dataclasses.dataclass(frozen=True)
class Projection:
    """Time ``chain(l2_sp, dtnh, sgd)`` on ResNet-50's 161 arrays, in float32."""

    out: Path = Path("benchmarks/results/projection.json")
    """File for the results; its folder is made where it is missing."""
    repetitions: int = 20
    """Timed calls of each function."""


def run(config: Projection, console: Console) -> None:
    """Measures, prints a table and writes JSON."""
    sizes = shapes.resnet50()
    rng = np.random.default_rng(0)
    g, w, w0 = (
        {
            name: jnp.asarray(rng.standard_normal(shape), jnp.float32)
            for name, shape in sizes.items()
        }
        for _ in range(3)
    )

    def by_hand(g, w, w0):
        return jax.tree.map(lambda g, w, w0: -0.1 * (g + 0.1 * (w - w0)), g, w, w0)

    def chain(rule):
        def update(g, w, w0):
            tx = optax.chain(l2_sp(w0, alpha=0.1), dtnh(**rule), optax.sgd(0.1))
            return tx.update(g, tx.init(w), w)

        return update

    functions = {"by hand": by_hand, **{name: chain(r) for name, r in RULES.items()}}
    times = interleaved(functions, g, w, w0, repetitions=config.repetitions)
    rows = [
        {
            "name": name,
            "milliseconds": 1e3 * float(np.median(seconds)),
            "to_ignore": float(np.median(seconds / times["ignore"])),
            "to_by_hand": float(np.median(seconds / times["by hand"])),
        }
        for name, seconds in times.items()
    ]
    table = Table(
        title=f"{len(sizes)} arrays, {shapes.size(sizes) / 1e6:.1f} M numbers"
    )
    for heading in ("update", "ms (median)", "to ignore", "to by hand"):
        table.add_column(heading, justify="left" if heading == "update" else "right")
    for row in rows:
        numbers = (row["milliseconds"], row["to_ignore"], row["to_by_hand"])
        table.add_row(row["name"], *(f"{x:.2f}" for x in numbers))
    console.print(table)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    record = {"machine": machine(), "repetitions": config.repetitions, "rows": rows}
    config.out.write_text(json.dumps(record, indent=2) + "\n")
