"""Inner products of two lists of leaves, at two scales, so that none underflows."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtnh_jax import _groups, _precision


def sums(
    reference: list[jax.Array],
    regularizer: list[jax.Array],
    groups: _groups.Groups,
    copies: tuple[int, ...],
    dtype: np.dtype,
    scaled_up: bool = False,
) -> jax.Array:
    """``<g, g>``, ``<r, r>`` and ``<g, r>`` of each group, shape ``[3, K]``.

    A leaf of which several devices hold a copy is shared out among them, so that it
    counts once in the total of all.
    """
    parts = [[jnp.zeros((3,), dtype)] for _ in groups.names]
    for g, r, k, n in zip(reference, regularizer, groups.of_leaf, copies, strict=True):
        g, r = _precision.accumulate_in(dtype, g), _precision.accumulate_in(dtype, r)
        if scaled_up:
            g, r = _scaled_up(g), _scaled_up(r)
        three = jnp.stack([_dot(g, g), _dot(r, r), _dot(g, r)])
        parts[k].append(three / n)
    # Without the barrier XLA makes a chain of additions of the sum of a stack, and does
    # them anew in the program of every leaf: with a hundred leaves it compiles three
    # times as long.
    stacks = jax.lax.optimization_barrier([jnp.stack(x) for x in parts])
    totals = [jnp.sum(x, axis=0) for x in stacks]
    return jnp.stack(totals, axis=1) if parts else jnp.zeros((3, 0), dtype)


def shift(dtype: Any) -> int:
    """The power of two by which small numbers are scaled up; 64 in float32."""
    return jnp.finfo(dtype).maxexp // 2


def _scaled_up(x: jax.Array) -> jax.Array:
    """``x`` times two to the power of ``shift``, exact, by adding to its exponent.

    Not a multiplication: XLA may fold (g * 2^64) * (r * 2^64) into (g * r) * infinity,
    through an optimization barrier too. Numbers too large to be scaled come out as
    anything; their sums are not used.
    """
    if jnp.iscomplexobj(x):
        return jax.lax.complex(_scaled_up(jnp.real(x)), _scaled_up(jnp.imag(x)))
    info = jnp.finfo(x.dtype)
    integer = np.dtype(f"int{info.bits}")
    added = np.asarray(shift(x.dtype) << info.nmant, integer)
    bits = jax.lax.bitcast_convert_type(x, integer)
    scaled = jax.lax.bitcast_convert_type(bits + added, x.dtype)
    return jnp.where(jnp.abs(x) < info.tiny, 0, scaled)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """Real inner product, as a sum that keeps every array in its own sharding."""
    return jnp.sum(jnp.real(jnp.conj(a) * b))
