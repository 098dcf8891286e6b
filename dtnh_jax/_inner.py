"""Refuses a whole optimizer as ``inner``: it negates the updates."""

from typing import Any

import jax
import numpy as np
import optax

from dtnh_jax import _trees

# Enough for an optimizer that accumulates, or whose learning rate starts at zero.
STEPS = 8
# So large that noise added to it does not show.
GRADIENT = 1e3


def refuse_negating(inner: Any, params: optax.Params) -> None:
    """Raises where ``inner`` negates the updates, as a whole optimizer does.

    It is tried on tiny arrays in a tree of the structure of ``params``. What cannot be
    tried like that, because it needs other arguments or its values are not known yet,
    is let through. So is a NaN, which tells nothing about a sign.
    """
    layout = _trees.Layout(params)
    shapes = [tuple(min(n, 2) for n in np.shape(x)) for x in layout.leaves(params)]
    ones = layout.build(np.ones(shape, np.float32) for shape in shapes)
    try:
        negates = _negates(inner, layout, ones)
    except Exception:
        return
    if negates:
        raise ValueError(
            "`inner` negates updates, as whole optimizers do: use the form without a "
            "learning rate, such as optax.scale_by_adam(), and put "
            "optax.scale_by_learning_rate(lr) after dtnh"
        )


def _negates(inner: Any, layout: _trees.Layout, ones: Any) -> bool:
    """Whether ``inner`` makes of positive numbers, in any array, negative ones."""
    gradient = jax.tree.map(lambda x: GRADIENT * x, ones)
    # Control flow, as in optax.MultiSteps, would be compiled anew at every step.
    with jax.disable_jit(), jax.ensure_compile_time_eval():
        state = inner.init(ones)
        for _ in range(STEPS):
            updates, state = inner.update(gradient, state, ones)
            arrays = [np.asarray(x) for x in layout.leaves(updates)]
            if any(np.any(x < 0) and np.all(x <= 0) for x in arrays):
                return True
            if any(np.any(x > 0) for x in arrays):
                return False
    return False
