"""The update alone: `dtnh` on two gradients that are ready, and their weighted sum.

Every program takes its last result, and ``dtnh`` its state, as donated arguments.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from benchmarks.timing import Program
from dtnh_jax import GradientPair, dtnh, l2_sp

WEIGHT = 0.1


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
    def tx(w0):
        return optax.chain(l2_sp(w0, alpha=WEIGHT), dtnh(**options))

    def update(out, state, g, w, w0):
        return tx(w0).update(g, state, w)

    return Program(update, g, tx(w0).init(w), g, w, w0, donated=2)


# Both gradients, or one with the parameters as they are and as they were pretrained.
PAIR = Form(2, _pair_plain, _pair_ours)
L2_SP = Form(3, _l2_sp_plain, _l2_sp_ours)
