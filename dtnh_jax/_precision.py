"""The dtypes in which sums are taken and returned."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def accumulator(leaves: list[jax.Array]) -> np.dtype:
    """float64 if any leaf is that precise, else float32."""
    precise = any(jnp.finfo(x.dtype).bits == 64 for x in leaves)
    return np.dtype(np.float64 if precise else np.float32)


def accumulate_in(dtype: np.dtype, x: jax.Array) -> jax.Array:
    """Casts ``x`` to ``dtype``, or to the matching complex dtype if it is complex."""
    if jnp.iscomplexobj(x):
        return x.astype(np.result_type(dtype, np.complex64))
    return x.astype(dtype)


def promoted(arrays: Sequence[jax.Array]) -> np.dtype:
    """The dtype of a sum of the arrays."""
    with jax.numpy_dtype_promotion("standard"):  # the user's may be strict
        return jnp.result_type(*(x.dtype for x in arrays))


def times(x: jax.Array, factor: Any) -> jax.Array:
    """Multiplies a real or complex leaf by a real number, in the leaf's dtype."""
    return x * factor.astype(x.dtype)
