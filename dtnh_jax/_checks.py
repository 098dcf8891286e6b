"""Errors that say what was expected, what was found, and at which leaf."""

import math
from collections.abc import Callable, Collection
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
    _number(name, value, "must be positive and finite", lambda x: 0 < x < math.inf)


def not_negative(name: str, value: Any) -> None:
    _number(name, value, "must not be negative", lambda x: x >= 0)


def fraction(name: str, value: Any) -> None:
    _number(name, value, "must be above 0 and below 1", lambda x: 0 < x < 1)


def rate(name: str, value: Any) -> None:
    """Raises where ``value`` is neither a schedule nor a number."""
    if not callable(value):
        _number(name, value, "must be a number", lambda x: not math.isnan(x))


def whole(name: str, value: Any) -> None:
    """Raises unless ``value`` is an integer known now and at least 1."""
    if not _is_integer(value):
        raise TypeError(f"`{name}` must be an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1, got {value!r}")


def integer(name: str, value: Any, path: Path) -> None:
    """Raises unless the entry ``value`` of a tree is an integer known now."""
    if not _is_integer(value):
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
    if not isinstance(value, optax.GradientTransformation):
        raise TypeError(
            f"`{name}` must be an optax.GradientTransformation, such as {example}, "
            f"got {value!r}"
        )


def one_of(name: str, value: Any, known: Collection[str]) -> None:
    if not isinstance(value, str) or value not in known:
        names = ", ".join(f'"{k}"' for k in known)
        raise ValueError(f"`{name}` must be one of {names}, got {value!r}")


def _number(name: str, value: Any, must: str, holds: Callable[[float], bool]) -> None:
    """Raises unless ``value`` is a number that holds, or a traced one, not known yet.

    It is compared as a float: a comparison of arrays is traced under ``jax.jit``.
    """
    if is_traced(value):
        return
    if isinstance(value, jax.Array | np.ndarray):
        is_number = value.ndim == 0 and jnp.issubdtype(value.dtype, jnp.number)
    else:
        is_number = isinstance(value, int | float | np.number)
    if not is_number:
        raise TypeError(f"`{name}` must be a number, got {value!r}")
    if not holds(float(value)):
        raise ValueError(f"`{name}` {must}, got {value!r}")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


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
        raise TypeError(
            "dtnh needs two gradients, the empirical loss's g and the regularizer's "
            f"r, and got one {type(updates).__name__}: {_HOW_TO_PAIR}"
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
    x_type, y_type = _dtype(x), _dtype(y)
    for kind in (jnp.floating, jnp.complexfloating):
        if jnp.issubdtype(x_type, kind) and jnp.issubdtype(y_type, kind):
            return
    raise TypeError(
        f"{names[1]} has dtype {y_type} {at(path)}, {names[0]} {x_type}; "
        "both must be floating-point or both complex"
    )


def _dtype(leaf: Any) -> Any:
    """The dtype that JAX gives a leaf; of what it takes for no array, its own."""
    try:
        return jax.dtypes.result_type(leaf)
    except TypeError:
        return getattr(leaf, "dtype", type(leaf))


def _first_difference(left: Any, right: Any, names: tuple[str, str], path: Path) -> str:
    """Where two trees part, in words; depth first, in the order of the left one."""
    ours, theirs = _children(left), _children(right)
    for key, child in ours.items():
        other = theirs.get(key, child)
        if jax.tree.structure(child) != jax.tree.structure(other):
            return _first_difference(child, other, names, path + key)
    if type(left) is type(right):
        for key, child in {**ours, **theirs}.items():
            if key not in ours or key not in theirs:
                has, lacks = names if key in ours else names[::-1]
                return (
                    f"{lacks} has nothing {at(path + key)}, where the {has} has "
                    f"{describe(child)}"
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
