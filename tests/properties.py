"""Checks of the guarantees G1 to G4, in float64 on the host, and a NumPy oracle.

Each check takes plain vectors (the flattened arrays of a group, complex numbers as two
reals) and the unit roundoff of the dtype under test. All bounds are relative to the
norms of the inputs, so that they mean the same at every scale.
"""

import jax
import numpy as np

# Rounding the result to its dtype changes an inner product by at most eps/2 times the
# norms, and sums in float32 add a few float32 eps. Allow a small multiple of that.
SLACK = 8


def epsilon(dtype) -> float:
    """Unit roundoff of ``dtype``, or that of float32 if sums are taken in it."""
    info = jax.numpy.finfo(dtype)
    return float(max(info.eps, 0 if info.bits == 64 else np.finfo(np.float32).eps))


def vectors(*trees, paths=lambda path: True) -> list[np.ndarray]:
    """Each tree as one float64 vector of the leaves with a selected path."""
    out = []
    for tree in trees:
        leaves = [
            x for p, x in jax.tree_util.tree_flatten_with_path(tree)[0] if paths(p)
        ]
        parts = [np.asarray(x).astype(np.complex128).ravel() for x in leaves]
        flat = np.concatenate([np.zeros(0, np.complex128), *parts])
        out.append(np.concatenate([flat.real, flat.imag]))
    return out


def groups(granularity, *trees):
    """The trees' vectors by group: an independent implementation of granularity."""
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(trees[0])[0]]
    depth = {"global": lambda p: (), "layer": lambda p: p[:-1], "leaf": lambda p: p}
    key = depth[granularity]
    for wanted in dict.fromkeys(map(key, paths)):
        yield vectors(*trees, paths=lambda path, wanted=wanted: key(path) == wanted)


def norm(x: np.ndarray) -> float:
    """Euclidean norm without underflow or overflow."""
    size = np.max(np.abs(x), initial=0.0)
    return 0.0 if size == 0 else float(size * np.sqrt(np.sum((x / size) ** 2)))


def dot(a: np.ndarray, b: np.ndarray) -> float:
    """Inner product divided by both norms; 0 if either norm is zero."""
    sizes = norm(a), norm(b)
    if 0 in sizes:
        return 0.0
    return float(np.sum((a / sizes[0]) * (b / sizes[1])))


def project(g: np.ndarray, r: np.ndarray) -> np.ndarray:
    """The oracle: r minus the component that opposes g, in float64."""
    cosine = dot(g, r)
    return r if cosine >= 0 else r - cosine * norm(r) * (g / norm(g))


def shortened(x: np.ndarray, length: float) -> np.ndarray:
    """Shortens x to at most ``length``."""
    return x * (length / norm(x)) if norm(x) > length else x


def step(
    u: np.ndarray, m: np.ndarray, r: np.ndarray, kappa: float, rule: str = "project"
) -> tuple[np.ndarray, ...]:
    """The oracle of the caps: d and r', from the weighted regularizer r."""
    kept = shortened(r, norm(u))
    if rule == "project":
        kept = project(m, kept)
    elif rule == "drop" and dot(m, kept) < 0:
        kept = 0 * kept
    kept = shortened(kept, kappa * norm(u))
    return shortened(u + kept, norm(u)), kept


def assert_non_conflict(g, r, projected, eps):
    """G1: <g, r'> >= 0."""
    against = dot(g, projected) * norm(projected)
    assert against >= -SLACK * eps * norm(r), (against, norm(r))


def assert_never_slower(g, r, d, eps):
    """G2: <g, d> >= |g|², for d = g + r' and the weighted regularizer r."""
    assert dot(g, d) * norm(d) >= norm(g) - SLACK * eps * (norm(g) + norm(r))


def assert_untouched(g, r, projected, eps):
    """G3: r' = r, bit for bit, without a conflict (beyond rounding)."""
    if dot(g, r) > SLACK * eps:
        np.testing.assert_array_equal(projected, r)


def assert_nearest(g, r, projected, eps):
    """G4: r' - r = μ·g with μ >= 0 and μ·<g, r'> = 0; |r'| <= |r|."""
    tolerance = SLACK * eps * norm(r)
    assert norm(projected) <= norm(r) + tolerance
    moved = projected - r
    if norm(g) == 0:
        return np.testing.assert_array_equal(projected, r)
    unit = g / norm(g)
    mu = np.sum(moved * unit)
    assert mu >= -tolerance
    assert norm(moved - mu * unit) <= tolerance
    if mu > tolerance:
        assert abs(dot(g, projected)) * norm(projected) <= tolerance


def assert_close(actual, expected, eps, size=None):
    """Equal up to rounding, relative to the norm of ``expected`` or to ``size``."""
    size = norm(expected) if size is None else size
    assert norm(actual - expected) <= SLACK * eps * size
