"""DTNH for Flax NNX. Needs Flax; the rest of the package does not import it."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import nnx

from dtnh_jax import _value_and_grad
from dtnh_jax._pair import GradientPair
from dtnh_jax._value_and_grad import pair_value_and_grad

__all__ = ["nnx_pair_value_and_grad"]


def nnx_pair_value_and_grad(
    fun: Callable[..., Any],
    argnums: int | nnx.DiffState | Sequence[int | nnx.DiffState] = 0,
    has_aux: bool = False,
    *,
    wrt: Any = nnx.Param,
) -> Callable[..., Any]:
    """Evaluates a loss, a penalty, and both gradients, for functions of NNX modules.

    Relates to :func:`dtnh_jax.pair_value_and_grad` as ``nnx.value_and_grad`` relates to
    ``jax.value_and_grad``. Batch statistics, random streams and other variables of the
    modules among the arguments are updated once, in place.

    Args:
      fun: as in :func:`dtnh_jax.pair_value_and_grad`. Its arguments may be modules,
        ``nnx.Rngs``, arrays, pytrees of these, and anything static.
      argnums: index or indices of the positional arguments to differentiate, or
        ``nnx.DiffState(index, filter)`` for an argument with its own filter.
      has_aux: whether ``fun`` also returns auxiliary data, a pytree of arrays.
      wrt: NNX filter for the variables to differentiate, in arguments given by index.

    Returns:
      As :func:`dtnh_jax.pair_value_and_grad`, with an ``nnx.State`` in place of each
      module in both halves of the pair.

    Raises:
      TypeError: see :func:`dtnh_jax.pair_value_and_grad`.
      ValueError: if ``argnums`` names an argument twice, or one is out of range.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from flax import nnx
      >>> from dtnh_jax import dtnh
      >>> from dtnh_jax.nnx import nnx_pair_value_and_grad
      >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
      >>> tx = optax.chain(dtnh(), optax.sgd(0.1))
      >>> optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
      >>> def losses(model, x):
      ...     return jnp.mean((model(x) - 1) ** 2), jnp.sum(model.kernel[...] ** 2)
      >>> differentiate = nnx_pair_value_and_grad(losses)
      >>> (loss, penalty), (g, r) = differentiate(model, jnp.ones((4, 2)))
      >>> _ = optimizer.update(model, g, regularizer_grads=r)
      >>> r["kernel"].shape
      (2, 1)
    """
    one = not isinstance(argnums, Sequence)
    entries = [
        x if isinstance(x, nnx.DiffState) else nnx.DiffState(x, wrt)
        for x in ([argnums] if one else argnums)
    ]
    numbers = [x.argnum for x in entries]
    _value_and_grad.check_integers(numbers)
    filters = [nnx.filterlib.to_predicate(x.filter) for x in entries]

    @functools.wraps(fun)
    def pair_fun(*args, **kwargs):
        places = _value_and_grad.resolve(numbers, len(args))
        wanted = dict(zip(places, filters, strict=True))
        flat, treedef = jax.tree_util.tree_flatten_with_path(
            (args, kwargs), is_leaf=nnx.graph.is_graph_node
        )
        leaves = [leaf for _, leaf in flat]
        # The argument each leaf belongs to, or None if that argument is held fixed.
        owners = [
            path[1].idx if path[0].idx == 0 and path[1].idx in wanted else None
            for path, _ in flat
        ]
        # Split all modules at once, so that shared variables stay shared. A shared
        # variable belongs to the first module that has it, so the differentiated
        # modules come first.
        spots = [k for k, leaf in enumerate(leaves) if nnx.graph.is_graph_node(leaf)]
        spots.sort(key=lambda spot: owners[spot] is None)
        modules = [leaves[spot] for spot in spots]

        def is_wanted(path, variable):
            owner = owners[spots[path[0]]]
            return owner is not None and wanted[owner](path[1:], variable)

        graphdef, moving, fixed = nnx.split(modules, is_wanted, ...)

        free = [None if owners[k] is None else x for k, x in enumerate(leaves)]
        for k, spot in enumerate(spots):
            free[spot] = None if owners[spot] is None else moving.get(k, nnx.State({}))
        free_args, no_kwargs = treedef.unflatten(free)

        def pure(*free_args):
            free = treedef.flatten_up_to((free_args, no_kwargs))
            inputs = [leaves[k] if owners[k] is None else x for k, x in enumerate(free)]
            states = {k: free[spot] for k, spot in enumerate(spots) if k in moving}
            merged = nnx.merge(graphdef, nnx.State(states), fixed, copy=True)
            for spot, module in zip(spots, merged, strict=True):
                inputs[spot] = module
            pure_args, pure_kwargs = treedef.unflatten(inputs)
            output = fun(*pure_args, **pure_kwargs)
            values, aux = _value_and_grad.unpack(output, has_aux)
            return values, (nnx.state(merged), aux)

        differentiate = pair_value_and_grad(pure, tuple(wanted), has_aux=True)
        (values, (state, aux)), pair = differentiate(*free_args)
        nnx.update(modules, state)
        if one:
            pair = GradientPair(*(half[0] for half in pair))
        return ((values, aux) if has_aux else values), pair

    return pair_fun
