"""The reference: a moving average of the gradients of the steps before this one."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
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
    """The reference before the first step."""
    sums = (jnp.zeros(groups, jnp.float32) for _ in range(2))
    return Reference(zeros_like(params, dtype), *sums)


def zeros_like(params: optax.Params, dtype: Any | None = None) -> optax.Params:
    """Zeros shaped like the arrays in ``params``, of ``dtype`` or float32 at least."""

    def zeros(p):
        wide = np.result_type(jax.dtypes.result_type(p), np.float32)
        return jnp.zeros_like(p, dtype=wide if dtype is None else dtype)

    layout = _trees.Layout(params)
    return layout.build(map(zeros, layout.leaves(params)))


def update(
    old: Reference, layout: _trees.Layout, gradient: Arrays, decay: Any, norms: Any
) -> Reference:
    """The reference after one more step, in the dtypes in which it is stored.

    ``norms`` are those of the gradient and the update. Where the gradient is None, the
    average does not change.
    """

    def step(m, g):
        wide = _precision.accumulate_in(_precision.accumulator([m, g]), m)
        new = g.astype(wide.dtype)
        moved = new + _precision.times(wide - new, jnp.asarray(decay))
        return moved.astype(m.dtype)

    moved = map(step, layout.arrays(old.average), gradient)
    empirical, inner = (x.astype(jnp.float32) for x in norms)
    return Reference(
        layout.build(moved, old.average),
        old.empirical + empirical,
        old.update + inner,
    )


def cap(
    norm: jax.Array, max_ratio: Any | None, gain: Any, decay: Any | None, count: Any
) -> jax.Array | None:
    """The greatest norm of ``r'`` in each group, ``κ |m| ρ``, or None for no cap.

    ``norm`` is ``|m|`` before bias correction, ``gain`` is ρ. The first step of an
    average has no reference, and leaves the regularizer out.
    """
    if max_ratio is None:
        if decay is None:
            return None
        return jnp.where(count == 0, 0, jnp.inf).astype(norm.dtype)
    longer = 1.0 if decay is None else correction(decay, count)
    for factor in (max_ratio, longer, gain):
        norm = _precision.times(norm, jnp.asarray(factor))
    return norm


def correction(decay: Any, count: Any) -> jax.Array:
    """What an average of ``count`` gradients is multiplied by, a scalar; 0 for none.

    It corrects for the start at zero, as in Adam (arXiv 1412.6980, section 3).
    """
    decay = jnp.asarray(decay, jnp.float32)
    share = -jnp.expm1(jnp.asarray(count, jnp.float32) * jnp.log(decay))
    return jnp.where(share == 0, 0, 1 / jnp.where(share == 0, 1, share))
