"""The update alone: `dtnh` on two gradients that are ready, and their weighted sum.

Every program takes its last result, and an optimizer its state, as donated arguments.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from benchmarks.timing import Program
from dtnh_jax import GradientPair, dtnh, dtnh_adamw, l2, l2_sp, mix_regularizers

WEIGHT = 0.1
LEARNING_RATE = 1e-3


class Form(NamedTuple):
    """How the two gradients come in.

    Attributes:
      trees: how many trees of gradients or parameters go in.
      plain: of these trees, the program of the plain weighted sum.
      ours: of these trees, and options of ``dtnh``, the program with it.
    """

    trees: int
    plain: Callable[..., Program]
    ours: Callable[..., Program]


def _pair_plain(g: Any, r: Any) -> Program:
    def update(out, g, r):
        return (jax.tree.map(lambda g, r: g + WEIGHT * r, g, r),)

    return Program(update, g, g, r, donated=1)


def _pair_ours(g: Any, r: Any, **options: Any) -> Program:
    tx = dtnh(WEIGHT, **options)

    def update(out, state, g, r):
        return tx.update(GradientPair(empirical=g, regularizer=r), state)

    return Program(update, g, tx.init(g), g, r, donated=2)


def _l2_sp_plain(g: Any, w: Any, w0: Any) -> Program:
    def update(out, g, w, w0):
        return (jax.tree.map(lambda g, w, w0: g + WEIGHT * (w - w0), g, w, w0),)

    return Program(update, g, g, w, w0, donated=1)


def _l2_sp_ours(g: Any, w: Any, w0: Any, **options: Any) -> Program:
    return _optimizer(optax.chain(l2_sp(WEIGHT), dtnh(**options)), g, w, w0)


def _adamw(g: Any, w: Any) -> Program:
    return _optimizer(optax.adamw(LEARNING_RATE), g, w)


def _steady(g: Any, w: Any, **options: Any) -> Program:
    rule = dtnh_adamw(LEARNING_RATE, **options)
    return _optimizer(optax.chain(mix_regularizers(l2_sp(), l2()), rule), g, w)


def _optimizer(
    tx: optax.GradientTransformation, g: Any, w: Any, start: Any | None = None
) -> Program:
    """An update at ``w`` of what was initialized at ``start``, by default ``w``."""

    def update(out, state, g, w):
        return tx.update(g, state, w)

    return Program(update, g, tx.init(w if start is None else start), g, w, donated=2)


# Both gradients; one, with the parameters as they are and as they were pretrained; or
# one with the parameters, for a whole optimizer.
PAIR = Form(2, _pair_plain, _pair_ours)
L2_SP = Form(3, _l2_sp_plain, _l2_sp_ours)
STEADY = Form(2, _adamw, _steady)
