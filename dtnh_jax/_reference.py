"""The reference: a moving average of the gradients of the steps before this one."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dtnh_jax import _precision, _trees
from dtnh_jax._sums import Arrays


class Reference(NamedTuple):
    """What :func:`dtnh` remembers of the steps before this one.

    Attributes:
      average: moving average of the empirical gradient, without bias correction, shaped
        like the parameters.
      empirical: sum of the norms of the empirical gradients, float32 ``[K]``.
      update: sum of the norms of the updates of ``inner``, float32 ``[K]``.
    """

    average: Any
    empirical: jax.Array
    update: jax.Array


def init(params: optax.Params, groups: int, dtype: Any | None) -> Reference:
    """The reference before the first step; ``dtype`` is by default float32 at least."""
    zeros = zeros_like(params, dtype)
    return Reference(zeros, *(jnp.zeros(groups, jnp.float32) for _ in range(2)))


def zeros_like(params: optax.Params, dtype: Any | None = None) -> optax.Params:
    """Zeros shaped like the arrays in ``params``, of ``dtype`` or float32 at least."""

    def wide(p):
        return _precision.accumulate_in(_precision.accumulator([p]), jnp.asarray(p))

    def zeros(p):
        # Parameters may be abstract, as for Optax's init: only a shape and a dtype.
        kind = jax.eval_shape(wide, p).dtype if dtype is None else dtype
        return jnp.zeros_like(p, dtype=kind)

    layout = _trees.Layout(params)
    return layout.build(map(zeros, layout.leaves(params)))


def update(
    reference: Reference, layout: _trees.Layout, gradient: Arrays, decay: Any
) -> Any:
    """The average after one more gradient, in the dtype in which it is stored.

    Where the gradient is None, it does not change.
    """

    def step(m, g):
        wide = _precision.accumulate_in(_precision.accumulator([m, g]), m)
        new = g.astype(wide.dtype)
        moved = new + _precision.times(wide - new, jnp.asarray(decay))
        return moved.astype(m.dtype)

    moved = map(step, layout.arrays(reference.average), gradient)
    return layout.replace(reference.average, moved)


def correction(decay: Any, count: Any) -> jax.Array:
    """What an average of ``count`` gradients is multiplied by, a scalar; 0 for none.

    It corrects for the start at zero (Kingma and Ba, `Adam
    <https://arxiv.org/abs/1412.6980>`_, 2015, section 3). Only the norm in the cap is
    corrected: an angle does not depend on lengths.
    """
    decay = jnp.asarray(decay, jnp.float32)
    share = -jnp.expm1(jnp.asarray(count, jnp.float32) * jnp.log(decay))
    return jnp.where(share == 0, 0, 1 / jnp.where(share == 0, 1, share))
