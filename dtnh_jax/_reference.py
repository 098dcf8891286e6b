"""What conflict is judged against: the average of the gradients of the steps before."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dtnh_jax import _precision, _trees
from dtnh_jax._sums import Arrays


class Reference(NamedTuple):
    """What is known of the steps before this one.

    Attributes:
      average: moving average of the empirical gradient, not yet corrected for its start
        at zero, shaped like the parameters.
      empirical: sum of the norms of the empirical gradients, float32 ``[K]``.
      update: sum of the norms of what ``inner`` made of them, float32 ``[K]``.
    """

    average: Any
    empirical: jax.Array
    update: jax.Array


def init(params: optax.Params, groups: int, dtype: Any | None) -> Reference:
    """No steps so far; the average is of ``dtype``, or of float32 at least."""
    zeros = zeros_like(params, dtype)
    return Reference(zeros, *(jnp.zeros(groups, jnp.float32) for _ in range(2)))


def zeros_like(params: optax.Params, dtype: Any | None = None) -> optax.Params:
    """Zeros shaped like the arrays in ``params``, of ``dtype`` or float32 at least."""

    def wide(p):
        return _precision.accumulate_in(_precision.accumulator([p]), jnp.asarray(p))

    def zeros(p):
        # As Optax has it, parameters may be abstract here: of a shape and a dtype only.
        kind = jax.eval_shape(wide, p).dtype if dtype is None else dtype
        return jnp.zeros_like(p, dtype=kind)

    layout = _trees.Layout(params)
    return layout.build(map(zeros, layout.leaves(params)))


def update(
    reference: Reference, layout: _trees.Layout, gradient: Arrays, decay: Any
) -> Any:
    """The average after one more gradient, in the type in which it is stored.

    Where there is no gradient (None) it stays as it is.
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

    It corrects for the start at zero: Kingma and Ba, `Adam
    <https://arxiv.org/abs/1412.6980>`_, 2015, section 3. Without it the reference would
    start out too short, and with it the cap of ``max_ratio``. An angle does not depend
    on lengths: only the norm is corrected, and the average itself stays as it is.
    """
    decay = jnp.asarray(decay, jnp.float32)
    share = -jnp.expm1(jnp.asarray(count, jnp.float32) * jnp.log(decay))
    return jnp.where(share == 0, 0, 1 / jnp.where(share == 0, 1, share))
