"""The update alone, for trees of arrays or shapes.

Every function takes its last result as a donated argument; an optimizer also its state.
"""

from collections.abc import Callable
from typing import Any

import jax
import optax

from benchmarks.programs.rules import l2_sp_by_hand
from benchmarks.timing import Function
from dtnh_jax import GradientPair, dtnh, dtnh_adamw, l2, l2_sp, mix_regularizers

WEIGHT = 0.1
LEARNING_RATE = 1e-3


def plain_sum(g: Any, r: Any) -> Function:
    """``g + 0.1 r``."""

    def update(out, g, r):
        return (jax.tree.map(lambda g, r: g + WEIGHT * r, g, r),)

    return Function(update, (g, g, r), donated=1)


def projected(g: Any, r: Any, **options: Any) -> Function:
    """``dtnh`` with these options, on two given gradients."""
    tx = dtnh(WEIGHT, **options)

    def update(out, state, g, r):
        return tx.update(GradientPair(empirical=g, regularizer=r), state)

    return Function(update, (g, _init(tx, g), g, r), donated=2)


def adamw() -> optax.GradientTransformation:
    return optax.adamw(LEARNING_RATE)


def steady() -> optax.GradientTransformation:
    mix = mix_regularizers(l2_sp(), l2())
    return optax.chain(mix, dtnh_adamw(LEARNING_RATE))


# Optimizers that take plain gradients.
OPTIMIZERS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "AdamW": adamw,
    "L2-SP by hand": lambda: optax.chain(l2_sp_by_hand(WEIGHT), adamw()),
    "L2-SP, dtnh": lambda: optax.chain(l2_sp(WEIGHT), dtnh(), adamw()),
    "steady rule": steady,
}


def optimized(
    make: Callable[[], optax.GradientTransformation], g: Any, w: Any
) -> Function:
    """One update of parameters ``w`` by an optimizer."""
    tx = make()

    def update(out, state, g, w):
        return tx.update(g, state, w)

    return Function(update, (g, _init(tx, w), g, w), donated=2)


def _init(tx: optax.GradientTransformation, params: Any) -> Any:
    first = jax.tree.leaves(params)[0]
    is_shape = isinstance(first, jax.ShapeDtypeStruct)
    return jax.eval_shape(tx.init, params) if is_shape else tx.init(params)
