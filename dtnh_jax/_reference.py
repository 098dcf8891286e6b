"""The reference: a moving average over the previous steps."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dtnh_jax import _precision, _trees
from dtnh_jax._sums import Arrays


def zeros_like(params: optax.Params, dtype: Any | None = None) -> optax.Params:
    """Zeros shaped like the arrays in ``params``.

    They are in at least float32 or, if the array is real, in ``dtype``.
    """

    def zeros(p):
        wide = np.result_type(jax.dtypes.result_type(p), np.float32)
        narrow = dtype is not None and not jnp.iscomplexobj(p)
        return jnp.zeros_like(p, dtype=dtype if narrow else wide)

    layout = _trees.Layout(params)
    return layout.build(map(zeros, layout.leaves(params)))


def moved(average: Arrays, new: Arrays, decay: Any) -> Iterator[jax.Array]:
    """Yields the average after one more step, in the dtypes it is stored in.

    The average starts at zero and has no bias correction: only its direction is used.
    """
    for m, x in zip(average, new, strict=True):
        wide = _precision.accumulate_in(_precision.accumulator([m, x]), m)
        x = x.astype(wide.dtype)
        yield (x + _precision.times(wide - x, jnp.asarray(decay))).astype(m.dtype)
