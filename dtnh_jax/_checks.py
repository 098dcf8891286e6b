"""Errors that say what was expected, what was found, and at which leaf."""

import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.tree_util import tree_flatten_with_path

from dtnh_jax._pair import GradientPair, MixedPair
from dtnh_jax._trees import Layout, Path, at

_GRADIENTS = "empirical gradient", "regularizer gradient"

# Requirements on a number, keyed by their wording in the error message.
_RANGES: dict[str, Callable[[float], bool]] = {
    "a number": lambda x: not math.isnan(x),
    "above 0 and below 1": lambda x: 0 < x < 1,
    "above 0 and at most 1": lambda x: 0 < x <= 1,
    "at least 1": lambda x: x >= 1,
    "non-negative and finite": lambda x: 0 <= x < math.inf,
    "positive and finite": lambda x: 0 < x < math.inf,
}


def number(name: str, value: Any, must_be: str) -> None:
    """Raises unless ``value`` is a number in range, or traced and so not known yet."""
    if isinstance(value, jax.Array | np.ndarray):
        is_number = value.ndim == 0 and jnp.issubdtype(value.dtype, jnp.number)
    else:
        is_number = isinstance(value, int | float | np.number)
    if not is_number or jnp.iscomplexobj(value):
        raise TypeError(f"`{name}` must be a real number, got {value!r}")
    if isinstance(value, Tracer):
        return
    # As a float, because comparing arrays under jax.jit would be traced.
    if not _RANGES[must_be](float(value)):
        raise ValueError(f"`{name}` must be {must_be}, got {value!r}")


def float_dtype(name: str, value: Any) -> None:
    """Raises unless ``value`` is a real floating-point dtype."""
    try:
        fits = jnp.issubdtype(jnp.dtype(value), jnp.floating)
    except TypeError:
        fits = False
    if not fits:
        raise TypeError(f"`{name}` must be a floating-point dtype, got {value!r}")


def integer(name: str, value: Any) -> None:
    """Raises unless ``value`` is an integer of at least 1."""
    number(name, value, "at least 1")
    if not jnp.issubdtype(jax.dtypes.result_type(value), jnp.integer):
        raise TypeError(f"`{name}` must be an integer, got {value!r}")


def entries(
    name: str, layout: Layout, values: list, must_be: str, kind: Any, but_not: Any = ()
) -> None:
    """Raises unless every array's entry is an instance of ``kind``."""
    for path, value in zip(layout.paths, values, strict=True):
        if not isinstance(value, kind) or isinstance(value, but_not):
            raise TypeError(f"`{name}` must be {must_be}, got {value!r} {at(path)}")


def transformation(name: str, value: Any) -> None:
    if not isinstance(value, optax.GradientTransformation):
        raise TypeError(
            f"`{name}` must be an optax.GradientTransformation, got {value!r}"
        )


def one_of(name: str, value: Any, known: Collection[str]) -> None:
    if not isinstance(value, str) or value not in known:
        names = ", ".join(f'"{k}"' for k in known)
        raise ValueError(f"`{name}` must be one of {names}, got {value!r}")


def as_pair(updates: Any, regularizer_grads: Any) -> GradientPair:
    """Checks and returns both halves, for either of the two ways to pass them."""
    is_pair = isinstance(updates, GradientPair)
    if is_pair and regularizer_grads is not None and not isinstance(updates, MixedPair):
        raise ValueError(
            "the regularizer gradient was given twice, in the GradientPair and as "
            "`regularizer_grads`: pass only one of them"
        )
    if not is_pair and regularizer_grads is None:
        raise TypeError(
            f"dtnh needs two gradients and got one {describe(updates)}: pass "
            "`GradientPair(empirical=g, regularizer=r)` as the updates, or g as the "
            "updates and `regularizer_grads=r` as a keyword, or put `l2_sp()` or "
            "`mix_regularizers(l2_sp(), l2())` before dtnh in the chain"
        )
    pair = updates if is_pair else GradientPair(updates, regularizer_grads)
    for half, gradient in pair._asdict().items():
        if gradient is None or isinstance(gradient, GradientPair):
            raise TypeError(f"the {half} half of the pair is {describe(gradient)}")
    same_structure(pair.empirical, pair.regularizer)
    return pair


def same_structure(left: Any, right: Any, names: tuple[str, str] = _GRADIENTS) -> None:
    """Raises unless both trees agree in structure, shapes and kinds of number."""
    if jax.tree.structure(left) != jax.tree.structure(right):
        path, x, y = _parting(left, right)
        raise ValueError(
            f"{names[1]} has {describe(y)} {at(path)}, {names[0]} {describe(x)}; both "
            "must have the same structure"
        )
    flat, _ = tree_flatten_with_path(left)
    for (path, x), y in zip(flat, jax.tree.leaves(right), strict=True):
        same_array(x, y, names, path)


def same_array(x: Any, y: Any, names: tuple[str, str], path: Path) -> None:
    """Raises unless two leaves share a shape and are both real or both complex."""
    x_type, y_type = (getattr(leaf, "dtype", type(leaf)) for leaf in (x, y))
    kinds = jnp.floating, jnp.complexfloating
    if not any(jnp.issubdtype(x_type, k) and jnp.issubdtype(y_type, k) for k in kinds):
        raise TypeError(
            f"{names[1]} has dtype {y_type} {at(path)}, {names[0]} {x_type}; "
            "both must be floating-point or both complex"
        )
    if jnp.shape(x) != jnp.shape(y):
        raise ValueError(
            f"{names[1]} has shape {jnp.shape(y)} {at(path)}, {names[0]} {jnp.shape(x)}"
        )


def _parting(left: Any, right: Any, path: Path = ()) -> tuple[Path, Any, Any]:
    """The first path at which two structures differ, and what each tree has there."""
    ours, theirs = (
        dict(tree_flatten_with_path(tree, is_leaf=lambda x, t=tree: x is not t)[0])
        for tree in (left, right)
    )
    if type(left) is type(right):
        for key in ours | theirs:
            x, y = ours.get(key, _Nothing()), theirs.get(key, _Nothing())
            if jax.tree.structure(x) != jax.tree.structure(y):
                return _parting(x, y, path + key)
    return path, left, right


class _Nothing(NamedTuple):
    """Placeholder for an entry that only the other tree has."""


def describe(tree: Any) -> str:
    """Describes a tree: ``float32[8]``, ``dict`` or ``(float32[], dict)``, say."""
    if isinstance(tree, _Nothing):
        return "nothing"
    if type(tree) is tuple:
        return f"({', '.join(map(describe, tree))})"
    if hasattr(tree, "shape") and hasattr(tree, "dtype"):
        return f"{tree.dtype}{list(tree.shape)}"
    return type(tree).__name__
