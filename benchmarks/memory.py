"""The memory that an update needs, as planned by XLA; nothing is run.

*Temporaries* are the memory that XLA allocates besides arguments and results. Programs
by hand may need none, so the ratio is that of parameters and temporaries together. At
1.1, an update needs at most a tenth of the parameters more, and copies no tree. *State*
is what the optimizer keeps between steps. The steady rule has two trees more than
AdamW: the average, in at least float32, and the anchor. The unit is one tree of
parameters. The temporaries of whole steps are tabulated above.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from benchmarks import goals
from benchmarks.programs import shapes, updates
from benchmarks.programs.shapes import Shapes
from benchmarks.rows import Pair, Row, row
from benchmarks.timing import Program

TITLE = "Memory"
TABLES = {
    "update": "Parameters and temporaries of an update.",
    "state": "State of the optimizer.",
}
GROWTH: dict[str, tuple[str, ...]] = {}

PAIRS = (
    Pair("global", "sum", goals.UPDATE_MEMORY),
    Pair("layer", "sum", goals.UPDATE_MEMORY),
    Pair("L2-SP, dtnh", "L2-SP by hand", goals.UPDATE_MEMORY),
    Pair("steady rule", "AdamW"),
)
STATE = {"float32": goals.STATE_FLOAT32, "bfloat16": goals.STATE_BFLOAT16}


def measure(quick: bool) -> Iterator[list[Row]]:
    """The rows of each network and dtype."""
    for network, sizes in (shapes.TINY if quick else shapes.networks()).items():
        for name in STATE:
            yield _memory(f"{network}, {name}", sizes, np.dtype(name))


def _memory(case: str, sizes: Shapes, dtype: np.dtype) -> list[Row]:
    g = w = shapes.abstract(sizes, dtype)
    tree = _bytes(w)
    functions = {
        "sum": updates.plain_sum(g, w),
        "global": updates.projected(g, w),
        "layer": updates.projected(g, w, granularity="layer"),
        **{x: updates.optimized(f, g, w) for x, f in updates.OPTIMIZERS.items()},
    }
    found = {
        name: Program(function).temporary_mb for name, function in functions.items()
    }
    temporaries = {name: x * 1e6 / tree for name, x in found.items() if x is not None}
    state = {
        name: _bytes(jax.eval_shape(updates.OPTIMIZERS[name]().init, w)) / tree
        for name in ("steady rule", "AdamW")
    }
    pair = Pair("steady rule", "AdamW", STATE[dtype.name])
    return [
        *(
            row(
                "update",
                case,
                pair,
                (1 + temporaries[pair.ours]) / (1 + temporaries[pair.reference]),
                {"temporaries": temporaries},
            )
            for pair in (PAIRS if temporaries else ())
        ),
        row("state", case, pair, state[pair.ours] / state["AdamW"], {"state": state}),
    ]


def _bytes(tree: Any) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
