"""Rejects whole optimizers passed as ``inner``, because they negate the updates."""

from typing import Any

import jax
import numpy as np
import optax

from dtnh_jax import _trees

# Enough for gradient accumulation, or a learning rate that starts at zero.
_STEPS = 8
# Large compared with any noise that `inner` adds.
_GRADIENT = 1e3


def refuse_negating(inner: Any, params: optax.Params) -> None:
    """Raises if ``inner`` negates the updates, as a whole optimizer does.

    Runs ``inner`` on tiny arrays in a tree with the structure of ``params``. Accepts
    it if that fails, because it needs more arguments or holds traced values, and if
    the result is NaN, which has no sign.
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
    """Whether ``inner`` turns positive gradients negative in any array."""
    gradient = jax.tree.map(lambda x: _GRADIENT * x, ones)
    # Control flow, as in optax.MultiSteps, would be compiled again in every step.
    with jax.disable_jit(), jax.ensure_compile_time_eval():
        state = inner.init(ones)
        for _ in range(_STEPS):
            updates, state = inner.update(gradient, state, ones)
            arrays = [np.asarray(x) for x in layout.leaves(updates)]
            if any(np.any(x < 0) and np.all(x <= 0) for x in arrays):
                return True
            if any(np.any(x > 0) for x in arrays):
                return False
    return False
