"""How long an update takes to compile, by the number of arrays.

The arrays are those of a convolutional network, in float32: layers of a kernel, a bias,
and the scale and bias of a norm. `dtnh` on two given gradients is compared with their
plain weighted sum, and the steady rule with `optax.adamw(lr)`. All programs of one size
are compiled in turn, in one process, three times (once on an accelerator, or if they
take long). Each time a new function is traced and lowered, then compiled by XLA,
without a persistent cache. The exponent p is fitted to cost ~ n^p over the last two
decades: 1 is linear growth.
"""

import functools
from collections.abc import Iterator

import numpy as np

from benchmarks import goals
from benchmarks.goals import on_cpu
from benchmarks.programs import shapes, updates
from benchmarks.rows import Pair, Row, measured, row
from benchmarks.timing import ratio

TITLE = "Compile time"
TABLES = {"compile": "Seconds to trace, lower and compile."}
GROWTH = {"arrays": ("compile s", "ms")}

GRANULARITIES = ("global", "layer", "leaf")
# The numbers with a goal come first.
JUDGED = (316, 1000)
NUMBERS = (*JUDGED, 10, 100, 3000)
PATIENCE = 30.0


def measure(quick: bool) -> Iterator[list[Row]]:
    """The rows of each number of arrays."""
    for n in (8, 16) if quick else NUMBERS:
        yield _arrays(n, quick)


def _arrays(n: int, quick: bool) -> list[Row]:
    g, w = (shapes.random(shapes.layers(n), seed, np.float32) for seed in range(2))
    # The largest number takes minutes.
    names = GRANULARITIES if n < max(NUMBERS) else ("layer",)
    found = measured(
        {
            "sum": functools.partial(updates.plain_sum, g, w),
            **{
                name: functools.partial(updates.projected, g, w, granularity=name)
                for name in names
            },
            "AdamW": functools.partial(updates.optimized, updates.adamw, g, w),
            "steady rule": functools.partial(updates.optimized, updates.steady, g, w),
        },
        seconds=0 if quick else 2,
        compilations=3 if on_cpu() and not quick else 1,
        patience=PATIENCE,
    )
    goal = goals.COMPILE if n in JUDGED else None
    pairs = [*(Pair(name, "sum", goal) for name in names), Pair("steady rule", "AdamW")]
    seconds = found.compile_s
    return [
        row(
            "compile",
            f"{n:,} arrays",
            pair,
            ratio(seconds[pair.ours], seconds[pair.reference]),
            found.figures,
            axis=("arrays", n),
        )
        for pair in pairs
    ]
