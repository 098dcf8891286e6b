"""Errors that say what was expected, what was found, and at which leaf."""

import math
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.tree_util import tree_flatten_with_path

from dtnh_jax._pair import GradientPair, MixedPair
from dtnh_jax._trees import Path, at

_GRADIENTS = "empirical gradient", "regularizer gradient"

_HOW_TO_PAIR = (
    "pass `GradientPair(empirical=g, regularizer=r)` as the updates, or g as the "
    "updates and `regularizer_grads=r` as a keyword, or put `l2_sp()` or "
    "`mix_regularizers(l2_sp(), l2())` before dtnh in the chain"
)


def positive(name: str, value: Any) -> None:
    """Raises where ``value`` is a number known now that is not above zero."""
    if _is_known(name, value) and not float(value) > 0:
        raise ValueError(f"`{name}` must be positive, got {value!r}")


def not_negative(name: str, value: Any) -> None:
    """Raises where ``value`` is a number known now that is below zero or NaN."""
    if _is_known(name, value) and not float(value) >= 0:
        raise ValueError(f"`{name}` must not be negative, got {value!r}")


def fraction(name: str, value: Any) -> None:
    """Raises where ``value`` is a number known now outside of the open (0, 1)."""
    if _is_known(name, value) and not 0 < float(value) < 1:
        raise ValueError(f"`{name}` must be above 0 and below 1, got {value!r}")


def rate(name: str, value: Any) -> None:
    """Raises where ``value`` is neither a schedule nor a number."""
    if not callable(value) and _is_known(name, value) and math.isnan(float(value)):
        raise ValueError(f"`{name}` must be a number, got {value!r}")


def whole(name: str, value: Any) -> None:
    """Raises unless ``value`` is an integer known now and at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"`{name}` must be an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1, got {value!r}")


def integer(name: str, value: Any, path: Path) -> None:
    """Raises unless the entry ``value`` of a tree is an integer known now."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"`{name}` must be integers, got {value!r} {at(path)}")


def boolean(name: str, value: Any, path: Path) -> None:
    """Raises unless the entry ``value`` of a tree is a boolean known now."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be booleans, got {value!r} {at(path)}")


def label(name: str, value: Any, path: Path) -> None:
    """Raises unless the entry ``value`` of a tree is something to tell groups by."""
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"`{name}` must be labels such as strings or integers, got {value!r} "
            f"{at(path)}"
        ) from None


def transformation(
    name: str, value: Any, example: str = "optax.scale_by_adam()"
) -> None:
    """Raises unless ``value`` is an Optax gradient transformation."""
    if not isinstance(value, optax.GradientTransformation):
        raise TypeError(
            f"`{name}` must be an optax.GradientTransformation, such as {example}, "
            f"got {value!r}"
        )


def one_of(name: str, value: Any, known: Collection[str]) -> None:
    """Raises where ``value`` is none of the ``known`` names."""
    if not isinstance(value, str) or value not in known:
        names = ", ".join(f'"{k}"' for k in known)
        raise ValueError(f"`{name}` must be one of {names}, got {value!r}")


def _is_known(name: str, value: Any) -> bool:
    """True for a number; False for a traced one, of which nothing can be asked yet.

    Compare it as ``float(value)``: under ``jax.jit`` a comparison of arrays is traced
    even where both are known.
    """
    if is_traced(value):
        return False
    if isinstance(value, jax.Array | np.ndarray):
        number = value.ndim == 0 and jnp.issubdtype(value.dtype, jnp.number)
    else:
        number = isinstance(value, int | float | np.number)
    if not number:
        raise TypeError(f"`{name}` must be a number, got {value!r}")
    return True


def is_traced(value: Any) -> bool:
    """True for a value that ``jax.jit``, ``vmap`` or ``scan`` will only know later."""
    return isinstance(value, Tracer)


def as_pair(updates: Any, regularizer_grads: Any) -> GradientPair:
    """Both halves, from whichever of the two call forms was used, checked."""
    if isinstance(updates, GradientPair):
        if regularizer_grads is not None and not isinstance(updates, MixedPair):
            raise ValueError(
                "the regularizer's gradient was given twice: in the GradientPair and "
                "as `regularizer_grads`; pass one of them"
            )
        pair = updates
    elif regularizer_grads is None:
        got = f"one {type(updates).__name__}"
        if type(updates) is tuple:
            got = "a bare tuple, which is itself a pytree of gradients"
        raise TypeError(
            "dtnh needs two gradients, the empirical loss's g and the regularizer's "
            f"r, and got {got}: {_HOW_TO_PAIR}"
        )
    else:
        pair = GradientPair(updates, regularizer_grads)
    for half, gradient in pair._asdict().items():
        if gradient is None:
            raise TypeError(f"the {half} half of the pair is None: {_HOW_TO_PAIR}")
        if isinstance(gradient, GradientPair):
            raise TypeError(f"the {half} half of the pair is itself a GradientPair")
    same_structure(pair.empirical, pair.regularizer)
    return pair


def same_structure(left: Any, right: Any, names: tuple[str, str] = _GRADIENTS) -> None:
    """Raises unless both trees agree in containers, shapes and kinds of number."""
    left_flat, left_def = tree_flatten_with_path(left)
    right_flat, right_def = tree_flatten_with_path(right)
    if left_def != right_def:
        raise ValueError(_first_difference(left, right, names, ()))
    for (path, x), (_, y) in zip(left_flat, right_flat, strict=True):
        same_kind(x, y, names, path)
        if jnp.shape(x) != jnp.shape(y):
            raise ValueError(
                f"{names[1]} has shape {jnp.shape(y)} {at(path)}, "
                f"{names[0]} {jnp.shape(x)}"
            )


def same_kind(x: Any, y: Any, names: tuple[str, str], path: Path) -> None:
    """Raises unless two leaves are both floating-point or both complex."""
    x_type, y_type = _dtype(x, names[0], path), _dtype(y, names[1], path)
    for kind in (jnp.floating, jnp.complexfloating):
        if jnp.issubdtype(x_type, kind) and jnp.issubdtype(y_type, kind):
            return
    raise TypeError(
        f"{names[1]} has dtype {y_type} {at(path)}, {names[0]} {x_type}; "
        "both must be floating-point or both complex"
    )


def _dtype(leaf: Any, name: str, path: Path) -> Any:
    """The dtype that JAX gives a leaf; raises for what it takes for no number."""
    try:
        return jax.dtypes.result_type(leaf)
    except TypeError:
        kind = f"dtype {leaf.dtype}" if hasattr(leaf, "dtype") else describe(leaf)
        raise TypeError(
            f"{name} has {kind} {at(path)}; every leaf must be an array of "
            "floating-point or complex numbers"
        ) from None


def _first_difference(left: Any, right: Any, names: tuple[str, str], path: Path) -> str:
    """Where two trees part, in words; depth first, in the order of the left one."""
    ours, theirs = _children(left), _children(right)
    for key, child in ours.items():
        if key in theirs:
            other = theirs[key]
            if jax.tree.structure(child) != jax.tree.structure(other):
                return _first_difference(child, other, names, path + key)
    for some, others, has, lacks in (
        (ours, theirs, names[0], names[1]),
        (theirs, ours, names[1], names[0]),
    ):
        missing = [key for key in some if key not in others]
        if missing and type(left) is type(right):
            return (
                f"{lacks} has nothing {at(path + missing[0])}, where the "
                f"{has} has {describe(some[missing[0]])}"
            )
    return (
        f"{names[1]} has {describe(right)} {at(path)}, {names[0]} "
        f"{describe(left)}: both must be of one structure"
    )


def _children(tree: Any) -> dict[Path, Any]:
    flat, _ = tree_flatten_with_path(tree, is_leaf=lambda x: x is not tree)
    return dict(flat)


def describe(tree: Any) -> str:
    """``tree`` by its kind, in words."""
    if jax.tree_util.all_leaves([tree]) and hasattr(tree, "shape"):
        return f"an array of shape {tree.shape}"
    return f"a {type(tree).__name__}"
