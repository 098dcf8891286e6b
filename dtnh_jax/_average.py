"""The moving average of the empirical gradient that can serve as the reference."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dtnh_jax import _precision


def init(params: optax.Params, dtype: Any | None) -> optax.Updates:
    """Zeros shaped like ``params``, of ``dtype`` or of float32 at least."""

    def wide(p):
        return _precision.accumulate_in(_precision.accumulator([p]), p)

    def zeros(p):
        # As Optax has it, parameters may be abstract here: of a shape and a dtype only.
        kind = jax.eval_shape(wide, p).dtype if dtype is None else dtype
        return jnp.zeros_like(p, dtype=kind)

    return jax.tree.map(zeros, params)


def update(average: optax.Updates, gradient: optax.Updates, decay: Any) -> Any:
    """``decay * average + (1 - decay) * gradient``, in the type of the average."""

    def step(m, g):
        wide = _precision.accumulate_in(_precision.accumulator([m, g]), m)
        new = g.astype(wide.dtype)
        moved = new + _precision.times(wide - new, jnp.asarray(decay))
        return moved.astype(m.dtype)

    return jax.tree.map(step, average, gradient)


def correction(decay: Any, count: Any) -> jax.Array:
    """What the average after ``count`` updates is to be multiplied by, a scalar.

    It corrects for the start at zero: Kingma and Ba, `Adam
    <https://arxiv.org/abs/1412.6980>`_, 2015, section 3. Without it the reference would
    start out too short, and with it the cap of ``max_ratio``. An angle does not depend
    on lengths: only the norm is corrected, and the average itself stays as it is.
    """
    decay = jnp.asarray(decay, jnp.float32)
    return -1 / jnp.expm1(jnp.asarray(count, jnp.float32) * jnp.log(decay))
