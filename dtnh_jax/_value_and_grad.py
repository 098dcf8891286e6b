"""Two gradients from one forward pass."""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtnh_jax import _trees
from dtnh_jax._pair import GradientPair


def pair_value_and_grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    allow_int: bool = False,
) -> Callable[..., Any]:
    """Evaluates a loss, a penalty, and the gradient of each, in one forward pass.

    ``jax.value_and_grad`` for a function with two values. Both gradients see one
    dropout mask and one set of batch statistics. Each value has a backward pass of its
    own, only through what that value depends on. That costs up to 5/3 of the gradient
    of the sum.

    Args:
      fun: returns ``(loss, penalty)``, two real scalars, which may differ in dtype; or
        ``((loss, penalty), aux)`` with ``has_aux``. Its arguments at ``argnums`` are
        pytrees of floating-point or complex arrays.
      argnums: which positional argument, or arguments, to differentiate.
      has_aux: whether ``fun`` returns auxiliary data beside the values.
      allow_int: whether arrays of integers, booleans or random keys may be among them,
        whose gradients are zeros of dtype ``float0``.

    Returns:
      A function with the arguments of ``fun`` that returns ``((loss, penalty), pair)``,
      or ``(((loss, penalty), aux), pair)`` with ``has_aux``. Each half of the
      :class:`GradientPair` is shaped like the argument at ``argnums``, or is a tuple of
      such if ``argnums`` is a sequence.

    Raises:
      TypeError: if ``argnums`` is no integer or sequence of integers; from the
        function returned, if an argument at ``argnums`` is missing or not
        differentiable, or ``fun`` does not return what it should.
      ValueError: from the function returned, if a negative argnum is out of range.

    Examples:
      >>> import jax.numpy as jnp
      >>> from dtnh_jax import pair_value_and_grad
      >>> def losses(params, x):
      ...     return jnp.sum(params["w"] * x), 0.5 * jnp.sum(params["w"] ** 2)
      >>> params = {"w": jnp.array([1.0, 2.0])}
      >>> x = jnp.array([3.0, 4.0])
      >>> (loss, penalty), pair = pair_value_and_grad(losses)(params, x)
      >>> print(loss, penalty, pair.empirical["w"], pair.regularizer["w"])
      11.0 2.5 [3. 4.] [1. 2.]
    """
    if not callable(fun):
        raise TypeError(f"`fun` must be a function, got {fun!r}")
    one = not isinstance(argnums, Sequence)
    numbers = tuple(index(n) for n in ([argnums] if one else argnums))
    if not numbers:
        raise TypeError("`argnums` must name an argument, got none")

    @functools.wraps(fun)
    def pair_fun(*args, **kwargs):
        places = [place(n, len(args)) for n in numbers]
        flat, treedef = jax.tree_util.tree_flatten_with_path([args[i] for i in places])
        leaves = [leaf for _, leaf in flat]
        smooth = [_is_smooth(path, x, places, allow_int) for path, x in flat]
        point = [x for x, s in zip(leaves, smooth, strict=True) if s]

        def merge(moved, others):
            moved, pairs = iter(moved), zip(smooth, others, strict=True)
            return treedef.unflatten(next(moved) if s else x for s, x in pairs)

        def call(moved):
            full = list(args)
            for i, argument in zip(places, merge(moved, leaves), strict=True):
                full[i] = argument
            return unpack(fun(*full, **kwargs), has_aux)

        values, tangents, aux = jax.linearize(call, point, has_aux=True)

        # The pullback of jax.vjp would take (1, 0) and (0, 1), and send the zero back
        # through layers on which only the other value depends.
        def half(which):
            pullback = jax.linear_transpose(lambda t: tangents(t)[which], point)
            (gradients,) = pullback(jnp.ones_like(values[which]))
            none = [np.zeros(jnp.shape(x), jax.dtypes.float0) for x in leaves]
            whole = merge(gradients, none)
            return whole[0] if one else tuple(whole)

        pair = GradientPair(empirical=half(0), regularizer=half(1))
        return ((values, aux) if has_aux else values), pair

    return pair_fun


def index(argnum: Any) -> int:
    try:
        return operator.index(argnum)
    except TypeError:
        raise TypeError(
            f"`argnums` must be an integer or a sequence of integers, got {argnum!r}"
        ) from None


def place(argnum: int, count: int) -> int:
    """The position that ``argnum`` means among ``count`` positional arguments."""
    if argnum >= count:
        raise TypeError(
            f"differentiating with respect to argument {argnum} needs at least "
            f"{argnum + 1} positional arguments, got {count}"
        )
    if argnum < -count:
        raise ValueError(
            f"`argnums` has {argnum}, but there are {count} positional arguments"
        )
    return argnum % count


def _is_smooth(path: Any, leaf: Any, places: list[int], allow_int: bool) -> bool:
    """Whether ``leaf`` has a gradient; raises where it has not, but should have."""
    if _trees.is_inexact(leaf):
        return True
    if allow_int and (isinstance(leaf, int) or hasattr(leaf, "dtype")):
        return False
    argument, inside = places[path[0].idx], path[1:]
    where = f"argument {argument}" + (f" {_trees.at(inside)}" if inside else "")
    raise TypeError(
        f"{where} is not floating-point or complex, got {_shown(leaf)}; pass "
        "allow_int=True, or leave it out of `argnums`"
    )


def unpack(output: Any, has_aux: bool) -> tuple[tuple[Any, Any], Any]:
    """``((loss, penalty), aux)`` from what ``fun`` returned, checked."""
    values: Any = output
    aux = None
    if has_aux:
        values, aux = output if _is_pair(output) else (None, None)
    if not _is_pair(values) or not all(map(_is_real_scalar, values)):
        expected = "((loss, penalty), aux)" if has_aux else "(loss, penalty)"
        raise TypeError(
            f"`fun` must return {expected}, with real floating-point scalars as loss "
            f"and penalty, as has_aux={has_aux} says; it returned {_shown(output)}"
        )
    return values, aux


def _is_pair(x: Any) -> bool:
    return isinstance(x, tuple) and len(x) == 2


def _is_real_scalar(x: Any) -> bool:
    is_array = jax.tree_util.all_leaves([x]) and _trees.is_inexact(x)
    return is_array and jnp.shape(x) == () and not jnp.iscomplexobj(x)


def _shown(output: Any) -> str:
    """Its kind, such as ``(float32[], float32[8])``, or ``dict``."""
    if type(output) is tuple:
        return f"({', '.join(map(_shown, output))})"
    if hasattr(output, "shape") and hasattr(output, "dtype"):
        return f"{output.dtype}{list(output.shape)}"
    return type(output).__name__
