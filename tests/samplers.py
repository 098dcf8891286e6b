"""Trees of arrays: pairs of gradients with known geometry, fixed and random."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from dtnh_jax import GradientPair

GRANULARITIES = ("global", "layer", "leaf")
# Each dtype under test, and the number of decades over which it is tested.
DTYPES = {
    "float32": (np.float32, 12),
    "bfloat16": (ml_dtypes.bfloat16, 12),
    "float16": (np.float16, 1),  # from 6e-5, its smallest normal number, to 65504
    "float64": (np.float64, 12),
    "complex64": (np.complex64, 12),
    "complex128": (np.complex128, 12),
}
# Float32 with every granularity, the other dtypes with one.
DTYPES_AND_GRANULARITIES = [
    *(("float32", granularity) for granularity in GRANULARITIES),
    *((name, "layer") for name in list(DTYPES)[1:]),
]

# Few shapes, so that compiled programs are reused. They include a scalar, an empty
# array and a None.
TEMPLATES = {
    "one array": {"w": (7,)},
    "a network": {
        "conv": {"kernel": (2, 2, 3, 4), "bias": (4,)},
        "norm": {"scale": (4,), "bias": None},
        "head": {"kernel": (4, 5), "bias": (5,), "temperature": ()},
    },
    "a list": [{"w": (3, 2), "b": ()}, {"w": (2, 3), "b": (0,)}, None],
}
NETWORK = {"conv": {"kernel": (2, 3), "bias": (2,)}, "head": {"temperature": ()}}


def fill(template, rng, dtype):
    """A tree of standard normal NumPy arrays, with the template's shapes."""
    if template is None:
        return None
    if isinstance(template, dict):
        return {key: fill(value, rng, dtype) for key, value in template.items()}
    if isinstance(template, list):
        return [fill(value, rng, dtype) for value in template]
    x = rng.standard_normal(template)
    if np.issubdtype(dtype, np.complexfloating):
        x = x + 1j * rng.standard_normal(template)
    return np.asarray(x).astype(dtype)


def normal(seed, template=NETWORK, dtype=np.float32):
    """The same as JAX arrays. Seeds 0 and 3 of the network agree in only one layer."""
    return jax.tree.map(jnp.asarray, fill(template, np.random.default_rng(seed), dtype))


def stack(*trees):
    """Stacks trees along a new first axis; with NumPy, which compiles nothing."""
    return jax.tree.map(lambda *x: np.stack(x), *trees)


def at(tree, k):
    """The ``k``-th of stacked trees."""
    return jax.tree.map(lambda x: x[k], tree)


def zeros(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def conflicting(g_scale=1.0, r_scale=1.0):
    """Two gradients that conflict globally and in every array."""
    g = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([[0.5]])}
    r = {"a": jnp.array([-3.0, 1.0]), "b": jnp.array([[-1.0]])}
    return (
        jax.tree.map(lambda x: x * jnp.float32(g_scale), g),
        jax.tree.map(lambda x: x * jnp.float32(r_scale), r),
    )


G, R = conflicting()


def update(tx, g=G, r=R, **kwargs):
    """One update from a new state, with a ``GradientPair``."""
    return tx.update(GradientPair(g, r), tx.init(g), **kwargs)


@st.composite
def pairs(draw, dtype, decades=12, templates=tuple(TEMPLATES)):
    """Pairs ``g = a·u``, ``r = b·(t·u + v)`` with random normal trees ``u`` and ``v``.

    ``a`` and ``b`` range over ``10^±decades`` independently. ``t`` ranges from -1000 to
    1000 and is sometimes 0. Depending on ``t``, the angle between ``g`` and ``r`` is
    near 0, 90 or 180 degrees, so that conflicts, no conflicts and borderline cases
    occur.
    """
    template = draw(st.sampled_from(templates))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    a, b = (10.0 ** draw(st.integers(-decades, decades)) for _ in range(2))
    t = draw(st.sampled_from([-1000.0, -3.0, -1.0, -0.1, 0.0, 0.1, 1.0, 1000.0]))
    wide = np.complex128 if np.issubdtype(dtype, np.complexfloating) else np.float64
    u, v = (fill(TEMPLATES[template], rng, wide) for _ in range(2))
    g = jax.tree.map(lambda x: np.asarray(a * x).astype(dtype), u)
    r = jax.tree.map(lambda x, y: np.asarray(b * (t * x + y)).astype(dtype), u, v)
    return GradientPair(g, r)
