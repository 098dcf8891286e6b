"""Mixes several regularizers into one, each scaled to a root mean square of 1."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dtnh_jax import _axes, _checks, _groups, _precision, _sums, _trees
from dtnh_jax._pair import GradientPair, MixedPair


class MixState(NamedTuple):
    """State of :func:`mix_regularizers`: the states of its makers."""

    makers: tuple[Any, ...]


def mix_regularizers(
    *makers: optax.GradientTransformation,
    weights: Sequence[float | jax.Array] | None = None,
    axis_name: _axes.AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Mixes several regularizers into one, each gradient scaled to unit RMS.

    .. math:: r = \sum_i w_i \frac{r_i}{\mathrm{rms}(r_i)}

    The root mean squares are taken over the whole tree. So the entries of the mixture
    are about as large as those of Adam's updates, whatever the size of the network.

    Args:
      *makers: transformations that turn the empirical gradient into a
        :class:`GradientPair`, such as :func:`l2_sp` and :func:`l2`. Only the
        regularizer half of the pair is used: clip the empirical gradient before the
        mix. If ``update`` is given a pair, or ``regularizer_grads``, that gradient is
        one more regularizer.
      weights: :math:`w_i`, non-negative, one per regularizer; by default 1 each.
      axis_name: as in :func:`dtnh`.

    Returns:
      A transformation from gradients or pairs to :class:`GradientPair`, with a
      :class:`MixState`. It must be followed by :func:`dtnh` or an optimizer made from
      it. A zero regularizer gradient contributes nothing.

    Raises:
      ValueError: if a weight is negative, the number of weights is not the number of
        regularizers, there are no regularizers, or ``axis_name`` is missing or unknown.
      TypeError: if a maker is not a transformation, or does not return a pair.

    Examples:
      >>> import jax.numpy as jnp
      >>> from dtnh_jax import l2, l2_sp, mix_regularizers
      >>> params = {"w": jnp.array([[3.0, 4.0]])}
      >>> mix = mix_regularizers(l2_sp(), l2())
      >>> state = mix.init(params)
      >>> grads = {"w": jnp.array([[1.0, 0.0]])}
      >>> params = {"w": jnp.array([[3.0, 4.5]])}
      >>> pair, state = mix.update(grads, state, params)
      >>> [f"{x:.2f}" for x in pair.regularizer["w"][0]]  # [0, √2] + [3, 4.5] / 3.82
      ['0.78', '2.59']
    """
    for i, maker in enumerate(makers):
        _checks.transformation(f"makers[{i}]", maker)
    if weights is not None:
        if not (isinstance(weights, Sequence) or np.ndim(weights) == 1):
            raise TypeError(f"`weights` must be a sequence of numbers, got {weights!r}")
        weights = tuple(weights)
        for i, weight in enumerate(weights):
            _checks.number(f"weights[{i}]", weight, "non-negative and finite")
        _check_count(weights, len(makers), len(makers) + 1)
    _axes.check(axis_name)
    makers = tuple(map(optax.with_extra_args_support, makers))

    def init_fn(params: optax.Params) -> MixState:
        return MixState(tuple(maker.init(params) for maker in makers))

    def update_fn(updates, state, params=None, *, regularizer_grads=None, **extra_args):
        given = []
        if isinstance(updates, GradientPair) or regularizer_grads is not None:
            updates, *given = _checks.as_pair(updates, regularizer_grads)
        made, states = [], []
        for i, (maker, old) in enumerate(zip(makers, state.makers, strict=True)):
            pair, new = maker.update(updates, old, params, **extra_args)
            if not isinstance(pair, GradientPair):
                raise TypeError(
                    f"makers[{i}] must turn a gradient into a GradientPair, as l2_sp() "
                    f"does; it returned {_checks.describe(pair)}"
                )
            made.append(_checks.as_pair(updates, pair.regularizer).regularizer)
            states.append(new)
        mixed = _mix(updates, [*made, *given], weights, axis_name)
        return MixedPair(updates, mixed), MixState(tuple(states))

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _check_count(weights: Sequence[Any], least: int, most: int) -> None:
    if not least <= len(weights) <= most:
        raise ValueError(
            f"`weights` has {len(weights)} entries for {least} regularizers: pass one "
            "per maker, and one more if `update` is given a regularizer gradient"
        )


def _mix(gradient: Any, members: list[Any], weights: Any, axis_name: Any) -> Any:
    if not members:
        raise ValueError(
            "mix_regularizers has nothing to mix: pass it makers, such as l2_sp(), or "
            "pass a GradientPair to its `update`"
        )
    weights = (1.0,) * len(members) if weights is None else weights
    _check_count(weights, len(members), len(members))
    layout = _trees.Layout(gradient)
    if not len(layout):
        return layout.build([])
    lists = [layout.arrays(member) for member in members]
    groups = _groups.divide(gradient, "global")
    # Even if the arrays are sharded, a regularizer gradient may be equal everywhere.
    arrays = [layout.arrays(gradient), *lists]
    axes = _axes.find(axis_name, layout, arrays, groups.axes)
    dtype = _precision.accumulator([x for each in lists for x in each])
    squares = _sums.products([(x, x) for x in lists], groups, axes, dtype)
    lowest = _sums.floor(lists[0], groups, axes, dtype)
    (size,) = _sums.sizes(lists[0], groups, axes)
    factors = [
        _sums.divide(
            jnp.asarray(w, dtype) * np.asarray(np.sqrt(size), dtype),
            _sums.norms(square, lowest)[0],
        )
        for w, square in zip(weights, squares, strict=True)
    ]
    # Computed once, not again in the kernel of every array.
    factors = jax.lax.optimization_barrier(factors)

    def mixed(*arrays: jax.Array) -> jax.Array:
        wide = (_precision.accumulate_in(dtype, x) for x in arrays)
        total = sum(map(_precision.times, wide, factors))
        return jnp.astype(total, _precision.promoted(arrays))

    return layout.build(map(mixed, *lists))
