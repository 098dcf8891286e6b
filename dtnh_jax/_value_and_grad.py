"""Two gradients from one forward pass."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtnh_jax import _checks, _trees
from dtnh_jax._pair import GradientPair


def pair_value_and_grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
) -> Callable[..., Any]:
    """Evaluates a loss, a penalty, and the gradient of each, in one forward pass.

    This is ``jax.value_and_grad`` for a function with two values. Both gradients see
    the same dropout mask and batch statistics. Each value has its own backward pass,
    only through what it depends on. The total cost is up to 5/3 of that of the gradient
    of the sum.

    Args:
      fun: returns ``(loss, penalty)``, two real scalars, or ``((loss, penalty), aux)``
        with ``has_aux``.
      argnums: index or indices of the positional arguments to differentiate, which must
        be pytrees of floating-point or complex arrays.
      has_aux: whether ``fun`` also returns auxiliary data.

    Returns:
      A function that takes the arguments of ``fun`` and returns its output and a
      :class:`GradientPair`. Each half is shaped like the argument at ``argnums``, or is
      a tuple of these if ``argnums`` is a sequence.

    Raises:
      TypeError: if ``argnums`` are not integers, an argument they name is missing or
        not differentiable, or ``fun`` does not return the values described above.
      ValueError: if a negative argnum is out of range, or two name the same argument.

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
    numbers = [argnums] if one else list(argnums)
    check_integers(numbers)

    @functools.wraps(fun)
    def pair_fun(*args, **kwargs):
        places = resolve(numbers, len(args))
        flat, treedef = jax.tree_util.tree_flatten_with_path([args[i] for i in places])
        for path, leaf in flat:
            _check_differentiable(path, leaf, places)
        point = [leaf for _, leaf in flat]

        def call(moved):
            full = list(args)
            for i, argument in zip(places, treedef.unflatten(moved), strict=True):
                full[i] = argument
            return unpack(fun(*full, **kwargs), has_aux)

        values, tangents, aux = jax.linearize(call, point, has_aux=True)

        # The pullback of jax.vjp would take (1, 0) and (0, 1), and propagate the zero
        # back through layers that only the other value depends on.
        def half(which):
            pullback = jax.linear_transpose(lambda t: tangents(t)[which], point)
            (gradients,) = pullback(jnp.ones_like(values[which]))
            whole = treedef.unflatten(gradients)
            return whole[0] if one else tuple(whole)

        pair = GradientPair(empirical=half(0), regularizer=half(1))
        return ((values, aux) if has_aux else values), pair

    return pair_fun


def check_integers(argnums: list[Any]) -> None:
    if not argnums or not all(isinstance(n, int | np.integer) for n in argnums):
        raise TypeError(f"`argnums` must be one or more integers, got {argnums}")


def resolve(argnums: Sequence[int], count: int) -> list[int]:
    """Resolves ``argnums``, which may be negative, among ``count`` arguments."""
    places = [_place(argnum, count) for argnum in argnums]
    if len(set(places)) < len(places):
        raise ValueError(f"`argnums` names an argument twice: {tuple(argnums)}")
    return places


def _place(argnum: int, count: int) -> int:
    if argnum >= count:
        raise TypeError(
            f"differentiating with respect to argument {argnum} needs at least "
            f"{argnum + 1} positional arguments, got {count}"
        )
    if argnum < -count:
        raise ValueError(f"`argnums` has {argnum}, but there are {count} arguments")
    return argnum % count


def _check_differentiable(path: Any, leaf: Any, places: list[int]) -> None:
    if _trees.is_inexact(leaf):
        return
    where = f" {_trees.at(path[1:])}" if path[1:] else ""
    raise TypeError(
        f"argument {places[path[0].idx]}{where} is not floating-point or complex, got "
        f"{_checks.describe(leaf)}; pass it in an argument that `argnums` leaves out"
    )


def unpack(output: Any, has_aux: bool) -> tuple[tuple[Any, Any], Any]:
    """Checks the output of ``fun`` and returns ``((loss, penalty), aux)``."""
    values: Any = output
    aux = None
    if has_aux:
        values, aux = output if _is_pair(output) else (None, None)
    if not _is_pair(values) or not all(map(_is_real_scalar, values)):
        expected = "((loss, penalty), aux)" if has_aux else "(loss, penalty)"
        raise TypeError(
            f"`fun` must return {expected} with {has_aux=}, where loss and penalty are "
            f"real floating-point scalars; it returned {_checks.describe(output)}"
        )
    return values, aux


def _is_pair(x: Any) -> bool:
    return isinstance(x, tuple) and len(x) == 2


def _is_real_scalar(x: Any) -> bool:
    is_array = jax.tree_util.all_leaves([x]) and _trees.is_inexact(x)
    return is_array and jnp.shape(x) == () and not jnp.iscomplexobj(x)
