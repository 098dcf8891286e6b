"""The update alone, on the arrays of real networks.

`dtnh` on two given gradients is compared with their plain weighted sum. The sum of two
trees of N elements reads 2N and writes N. DTNH must read all of both trees before it
can write the first element. So it reads them twice, which makes 5N in all and a floor
of 5/3. The whole steady rule, `chain(mix_regularizers(l2_sp(), l2()), dtnh_adamw(lr))`,
is compared with `optax.adamw(lr)`, and with L2-SP added by hand before it. It includes
norms, average, cap and the inner optimizer.

Each measurement is one jitted call of `update`, whose result and state replace those of
the last call, as in training. On an accelerator, where dispatching a call takes longer
than running it, it is 20 updates in one jitted loop. A copy of one array of the same
size, which moves 2N, is timed in between and gives the bandwidth of the machine. The
exponent p is fitted to cost ~ n^p over the last two decades: 1 is linear growth.
"""

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import goals
from benchmarks.goals import on_cpu
from benchmarks.programs import shapes, updates
from benchmarks.programs.shapes import Shapes
from benchmarks.rows import Measured, Pair, Row, measured, row
from benchmarks.timing import Function, ratio

TITLE = "The update alone"
TABLES = {
    "pair": "Two given gradients.",
    "bandwidth": "The same, as time relative to a copy of as many bytes.",
    "optimizer": "Whole optimizers.",
    "size": "By the total number of elements, in 30 arrays.",
    "stacked": "By the number of layers stacked in one array of 10^7 elements.",
}
GROWTH = {"numbers": ("ms",), "stacked layers": ("ms", "compile s")}

FLOAT32 = np.dtype(jnp.float32)
DTYPES = {FLOAT32: goals.FLOAT32, np.dtype(jnp.bfloat16): goals.BFLOAT16}
# Number of updates per call on an accelerator.
LOOP = 20
# Number of trees that the compared programs hold at once.
PAIR_TREES, OPTIMIZER_TREES = 6, 20


def measure(quick: bool) -> Iterator[list[Row]]:
    """The rows of each network and dtype, then of sizes, then of stacked layers."""
    seconds = 0 if quick else 4 if on_cpu() else 2
    networks = shapes.TINY if quick else shapes.networks()
    for network, sizes in networks.items():
        for dtype in DTYPES:
            case = f"{network}, {dtype}"
            yield _optimizers(case, sizes, dtype, seconds)
            yield _pair(case, sizes, dtype, seconds)
    for n in (100, 1000) if quick else (10**5, 10**6, 10**7, 10**8, 10**9):
        yield _size(n, seconds / 2)
    for n in (1, 2) if quick else (1, 10, 100, 1000):
        yield _stacked(n, 64 if quick else 10**7, seconds / 2)


def _pair(case: str, sizes: Shapes, dtype: np.dtype, seconds: float) -> list[Row]:
    g, r = _trees(sizes, dtype)
    size = shapes.size(sizes) * dtype.itemsize
    a = jnp.ones(size // 4, jnp.float32)
    found = _measured(
        {
            "copy": lambda: Function(lambda out, a: (-a,), (a, a), donated=1),
            **_sum_and("global", g, r, granularity="global"),
            **_sum_and("layer", g, r, granularity="layer"),
        },
        seconds=seconds,
    )
    goal = DTYPES[dtype]
    pairs = Pair("global", "sum", goal), Pair("layer", "sum", goal)
    # The number of trees that each reads and writes.
    moved = {"copy": 2, "sum": 3, "layer": 5}
    times = {name: found.seconds[name] / n for name, n in moved.items()}
    speed = {name: size / 1e9 / float(np.median(x)) for name, x in times.items()}
    return [
        *found.rows("pair", case, pairs, floor=5 / 3),
        *(
            row(
                "bandwidth",
                case,
                Pair(name, "copy"),
                ratio(times[name], times["copy"]),
                {"GB/s": speed},
            )
            for name in ("sum", "layer")
        ),
    ]


def _optimizers(case: str, sizes: Shapes, dtype: np.dtype, seconds: float) -> list[Row]:
    found = _measured(_adamw_and(*_trees(sizes, dtype)), seconds=seconds)
    pairs = (
        Pair("steady rule", "AdamW", goals.STEADY_UPDATE),
        Pair("steady rule", "L2-SP by hand"),
        Pair("L2-SP, dtnh", "L2-SP by hand"),
    )
    return found.rows("optimizer", case, pairs)


def _size(n: int, seconds: float) -> list[Row]:
    if not _fits(PAIR_TREES * 4 * n):
        return []
    g, r = _trees(shapes.equal(30, n), FLOAT32)
    functions = _sum_and("layer", g, r, granularity="layer")
    pairs = [Pair("layer", "sum")]
    if _fits(OPTIMIZER_TREES * 4 * n):
        pairs.append(Pair("steady rule", "AdamW"))
        functions |= _adamw_and(g, r, only=pairs[1][:2])
    found = _measured(functions, seconds=seconds)
    return found.rows("size", f"{n:,} numbers", pairs, axis=("numbers", n))


def _stacked(layers: int, numbers: int, seconds: float) -> list[Row]:
    g, r = _trees(shapes.stacked(layers, numbers), FLOAT32)
    options = {"granularity": "layer", "stacked": {"blocks": 0}}
    found = _measured(_sum_and("layer", g, r, **options), seconds=seconds)
    axis = "stacked layers", layers
    pairs = [Pair("layer", "sum")]
    return found.rows("stacked", f"{layers:,} layers", pairs, axis=axis)


def _measured(
    functions: dict[str, Callable[[], Function]], *, seconds: float
) -> Measured:
    return measured(functions, seconds=seconds, times=1 if on_cpu() else LOOP)


def _trees(sizes: Shapes, dtype: np.dtype) -> tuple[Any, Any]:
    return shapes.random(sizes, 0, dtype), shapes.random(sizes, 1, dtype)


def _sum_and(
    name: str, g: Any, r: Any, **options: Any
) -> dict[str, Callable[[], Function]]:
    return {
        "sum": functools.partial(updates.plain_sum, g, r),
        name: functools.partial(updates.projected, g, r, **options),
    }


def _adamw_and(
    g: Any, w: Any, only: tuple[str, ...] = ()
) -> dict[str, Callable[[], Function]]:
    return {
        name: functools.partial(updates.optimized, make, g, w)
        for name, make in updates.OPTIMIZERS.items()
        if name in (only or updates.OPTIMIZERS)
    }


def _fits(size: int) -> bool:
    """Whether ``size`` bytes leave a third of the device's memory free."""
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    if limit is None:
        limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return size < limit * 2 / 3
