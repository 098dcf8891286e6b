"""Combining two gradients that are ready: `dtnh` beside their plain weighted sum.

The sum of two trees of N numbers reads 2N and writes N. DTNH has to have seen all of
both before it can write the first number: it reads them twice, 5N in all, so that 5/3
of the sum's time is the floor. With `l2_sp` before it the second gradient is made on
the way from the parameters and the pretrained ones: 7N against 4N. With
`reference_decay` the moving average is read twice and written once, besides.

Timed on the shapes of real networks, in one jitted call of `update`, whose result and
state take the place of the last call's, as in training. GB/s are the floor's bytes over
the time; copy (2N) and triad (3N, `a + 0.1 * b`) of one array of the same bytes, timed
in between, say what the machine gives.

On a CPU, XLA makes a kernel of its own of each of the three sums (`<g, g>`, `<r, r>`,
`<g, r>`): 7N are read and written instead of 5N, so that 7/3 of the sum is the best to
be had there. With `l2_sp`, the sums want the second gradient as an array, which is
written and read besides. (Why bfloat16 costs more than that, we do not know.) The
temporary memory is that array, and what would hold both gradients scaled up, which is
set aside, but touched only where a norm is tiny. A compiler for GPUs can make one
kernel of sums that read the same arrays.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

from benchmarks import results, shapes, tables
from benchmarks.results import FOLDER, Row, compared
from benchmarks.timing import Program, device_peak_mb, interleaved
from dtnh_jax import GradientPair, dtnh, l2_sp

NETWORKS = {
    "ResNet-50": shapes.resnet50(),
    "ViT-B/16": shapes.vit_b16(),
    "GPT-2": shapes.gpt2(),
}
TINY = {"tiny": {"layer0/kernel": (8, 8), "layer0/bias": (8,), "layer1/bias": (8,)}}
RULES = {
    "global": {},
    "layer": {"granularity": "layer"},
    "leaf": {"granularity": "leaf"},
    "max_ratio": {"max_ratio": 0.3},
    "reference_decay": {"reference_decay": 0.9},
    "drop": {"on_conflict": "drop"},
}
USUAL = ("global", "layer")
# How many trees of gradients or parameters go in.
INPUTS = {"pair": 2, "L2-SP": 3}
WEIGHT = 0.1


@dataclasses.dataclass(frozen=True)
class Projection:
    """Time dtnh() on two ready gradients against their plain weighted sum."""

    seconds: float = 6.0
    """Time for the calls of each network, dtype and form, all rules together."""
    least: int = 10
    """Repetitions, even where they take longer than that."""
    thorough: bool = False
    """Every rule for every dtype and form, not for float32 pairs only; compiling them
    takes twice the time."""
    quick: bool = False
    """Three small arrays, one rule, three repetitions: to see whether it runs."""
    out: Path = FOLDER
    """Folder for the results."""

    def run(self, console: Console) -> Path:
        """Measures, prints a table and writes JSON; returns its path."""
        rows = []
        for network, sizes in (TINY if self.quick else NETWORKS).items():
            for dtype in (jnp.float32, jnp.bfloat16):
                for form in INPUTS:
                    rows += self._measure(network, sizes, np.dtype(dtype), form)
                    console.print(f"done: {network}, {np.dtype(dtype)}, {form}")
        console.print(tables.terminal("projection", *tables.comparison(rows)))
        return results.write("projection", self, rows, self.out)

    def _measure(
        self, network: str, sizes: shapes.Shapes, dtype: np.dtype, form: str
    ) -> list[Row]:
        every = self.thorough or (dtype == np.float32 and form == "pair")
        rules = ("global",) if self.quick else tuple(RULES) if every else USUAL
        programs = _programs(sizes, dtype, form, rules)
        seconds, least = (0.0, 3) if self.quick else (self.seconds, self.least)
        times = interleaved(programs, seconds=seconds, least=least)
        gigabytes = shapes.size(sizes) * dtype.itemsize / 1e9

        def speed(name: str, inputs: float) -> float:
            return inputs * gigabytes / float(np.median(times[name]))

        return [
            compared(
                f"{network}, {dtype}, {form}: {rule}",
                rule,
                "sum",
                programs,
                times,
                floor=moved(form, rule, dtype) / moved(form, "sum", dtype),
                extra={
                    "GB/s": speed(rule, moved(form, rule, dtype)),
                    "sum GB/s": speed("sum", moved(form, "sum", dtype)),
                    "copy GB/s": speed("copy", 2),
                    "triad GB/s": speed("triad", 3),
                    "device peak MB": device_peak_mb(),
                    "arrays": len(sizes),
                    "numbers": shapes.size(sizes),
                },
            )
            for rule in rules
        ]


def moved(form: str, rule: str, dtype: np.dtype) -> float:
    """Fewest arrays like a gradient that have to be read and written."""
    if rule == "sum":
        return INPUTS[form] + 1
    average = max(dtype.itemsize, 4) / dtype.itemsize
    return 2 * INPUTS[form] + 1 + 3 * average * (rule == "reference_decay")


def _programs(
    sizes: shapes.Shapes, dtype: np.dtype, form: str, rules: Sequence[str]
) -> dict[str, Program]:
    """The rules, the sum, and what the machine gives for one array of these bytes."""
    trees = [shapes.random(sizes, seed, dtype) for seed in range(INPUTS[form])]
    a, b = jnp.ones((2, shapes.size(sizes) * dtype.itemsize // 4), jnp.float32)
    make = {"pair": _pair, "L2-SP": _l2_sp}[form]
    return {
        "copy": Program(lambda out, a: (-a,), a, a, donated=1),
        "triad": Program(lambda out, a, b: (a + WEIGHT * b,), a, a, b, donated=1),
        "sum": Program(
            {"pair": _sum, "L2-SP": _l2_sp_sum}[form], trees[0], *trees, donated=1
        ),
        **{name: make(RULES[name], *trees) for name in rules},
    }


def _sum(out, g, r):
    return (jax.tree.map(lambda g, r: g + WEIGHT * r, g, r),)


def _l2_sp_sum(out, g, w, w0):
    return (jax.tree.map(lambda g, w, w0: g + WEIGHT * (w - w0), g, w, w0),)


def _pair(rule, g, r) -> Program:
    tx = dtnh(WEIGHT, **rule)

    def update(out, state, g, r):
        return tx.update(GradientPair(empirical=g, regularizer=r), state)

    return Program(update, g, tx.init(g), g, r, donated=2)


def _l2_sp(rule, g, w, w0) -> Program:
    def tx(w0):
        return optax.chain(l2_sp(w0, alpha=WEIGHT), dtnh(**rule))

    def update(out, state, g, w, w0):
        return tx(w0).update(g, state, w)

    return Program(update, g, tx(w0).init(w), g, w, w0, donated=2)
