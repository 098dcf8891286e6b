"""Regularizers that need only the parameters: transformations that make the pair."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dtnh_jax import _checks, _precision, _trees
from dtnh_jax._pair import GradientPair
from dtnh_jax._trees import Layout


class L2SpState(NamedTuple):
    """State of :func:`l2_sp`: the pretrained parameters, with None for new arrays."""

    anchor: Any


def l2_sp(
    alpha: float | jax.Array = 1.0,
    beta: float | jax.Array = 0.0,
    *,
    pretrained: optax.Params | None = None,
    new: Any | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Turns plain gradients into pairs, with the gradient of the L2-SP penalty.

    .. math:: \Omega(w) = \frac\alpha2\|w_S - w_S^0\|^2 + \frac\beta2\|w_{\bar S}\|^2

    where :math:`S` are the pretrained arrays and :math:`\bar S` the new ones (`Li et
    al., 2018 <https://arxiv.org/abs/1802.01483>`_). Its gradient, :math:`\alpha(w-w^0)`
    and :math:`\beta w`, needs no backward pass.

    ``init`` copies the anchor :math:`w^0` into the state, so that both are saved and
    sharded together. By default, the anchor is the parameters given to ``init``, so
    load the pretrained parameters first.

    Args:
      alpha: weight of the distance from the pretrained arrays, non-negative.
      beta: weight of the norm of the new arrays, non-negative.
      pretrained: another anchor: a pytree matched by path, whatever its containers,
        with ``None`` for each new array or subtree.
      new: which arrays are new, if any: a pytree of booleans matched by path, or a
        function from the parameters to one. A boolean applies to everything below it.

    Returns:
      A transformation from gradients to :class:`GradientPair`, with an
      :class:`L2SpState`. It must be followed by :func:`dtnh` or an optimizer made from
      it. ``update`` needs ``params``; the regularizer gradient has their dtypes.

    Raises:
      ValueError: if a weight is negative, ``pretrained`` or ``new`` does not match the
        parameters, or ``update`` is called without ``params``.
      TypeError: if ``update`` is given a pair.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from dtnh_jax import dtnh, l2_sp
      >>> params = {"body": jnp.array([1.0, 2.0]), "head": jnp.ones(1)}
      >>> tx = optax.chain(l2_sp(alpha=0.1, beta=0.01, new={"head": True}), dtnh())
      >>> state = tx.init(params)
      >>> params = {"body": jnp.array([1.0, 3.0]), "head": jnp.ones(1)}
      >>> grads = {"body": jnp.array([1.0, 1.0]), "head": jnp.ones(1)}
      >>> updates, state = tx.update(grads, state, params)
      >>> updates["body"], updates["head"]
      (Array([1. , 1.1], dtype=float32), Array([1.01], dtype=float32))
    """
    if _trees.is_tree(alpha):
        kind = _checks.describe(alpha)
        raise TypeError(
            f"`alpha` must be a number, got {kind}: pass it as `pretrained=`"
        )
    _checks.number("alpha", alpha, "non-negative and finite")
    _checks.number("beta", beta, "non-negative and finite")

    def init_fn(params: optax.Params) -> L2SpState:
        layout = Layout(params)
        is_new = [False] * len(layout)
        if new is not None:
            is_new = _flags("new", new, layout, params, default=False)
        anchors = layout.leaves(params)
        if pretrained is not None:
            anchors = anchors_of(pretrained, layout, params, is_new)
        anchors = zip(anchors, is_new, strict=True)
        return L2SpState(layout.build(None if n else _copy(x) for x, n in anchors))

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        layout = _check_plain("l2_sp", updates, params)
        anchors = layout.leaves(state.anchor)
        factors = [beta if w0 is None else alpha for w0 in anchors]
        r = map(_pull, layout.leaves(params), anchors, factors)
        return GradientPair(updates, layout.build(r)), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def l2(
    alpha: float | jax.Array = 1.0, mask: Any | None = None
) -> optax.GradientTransformationExtraArgs:
    r"""Turns plain gradients into pairs, with the gradient of the L2 penalty.

    The penalty is :math:`\frac\alpha2\|w\|^2` and its gradient :math:`\alpha w`.
    Followed by :func:`dtnh`, it is weight decay minus the component that opposes the
    empirical loss.

    Args:
      alpha: weight of the penalty, non-negative.
      mask: which arrays to decay: a pytree or a function, like ``new`` in
        :func:`l2_sp`; ``True`` for all. By default, arrays with at least two axes. That
        leaves out biases and normalization scales, unless several layers are stacked in
        one array.

    Returns:
      A transformation like that of :func:`l2_sp`, but without a state.

    Raises:
      ValueError, TypeError: as :func:`l2_sp`.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from dtnh_jax import dtnh, l2
      >>> params = {"kernel": jnp.array([[1.0, 2.0]]), "bias": jnp.ones(1)}
      >>> tx = optax.chain(l2(), dtnh(0.1), optax.sgd(1.0))
      >>> grads = {"kernel": jnp.array([[1.0, 1.0]]), "bias": jnp.ones(1)}
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> updates["kernel"], updates["bias"]
      (Array([[-1.1, -1.2]], dtype=float32), Array([-1.], dtype=float32))
    """
    _checks.number("alpha", alpha, "non-negative and finite")

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        layout = _check_plain("l2", updates, params)
        if mask is None:
            decayed = [jnp.ndim(x) > 1 for x in layout.leaves(updates)]
        else:
            decayed = _flags("mask", mask, layout, params)
        factors = [alpha if decays else 0.0 for decays in decayed]
        r = map(_pull, layout.leaves(params), [None] * len(layout), factors)
        return GradientPair(updates, layout.build(r)), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update_fn)


def anchors_of(pretrained: Any, layout: Layout, params: Any, is_new: list) -> list:
    """The pretrained array of each parameter, or None if it is new."""
    absent = object()
    anchors = layout.match(pretrained, "pretrained", default=absent)
    for i, w in enumerate(layout.leaves(params)):
        path, w0 = layout.paths[i], anchors[i]
        if is_new[i] or w0 is None:
            anchors[i] = None
        elif w0 is absent:
            raise ValueError(
                f"`pretrained` has no array for the parameter {_trees.at(path)}: make "
                "the key paths match, or put None there if the parameter is new"
            )
        else:
            _checks.same_array(w, w0, ("parameter", "pretrained array"), path)
    return anchors


def deviation(w: jax.Array, w0: Any | None) -> jax.Array:
    """``w - w0`` in at least float32, or ``w`` itself if it is new."""
    dtype = _precision.accumulator([w])
    wide = _precision.accumulate_in(dtype, w)
    if w0 is None:
        return wide
    return wide - _precision.accumulate_in(dtype, jnp.asarray(w0))


def _pull(w: Any, w0: Any | None, factor: Any) -> jax.Array:
    """``factor`` times the deviation, in the dtype of ``w``."""
    w = jnp.asarray(w)
    return _precision.times(deviation(w, w0), jnp.asarray(factor)).astype(w.dtype)


def _copy(x: Any) -> Any:
    """Copies ``x``, so that parameters and state can both be donated."""
    # Optax allows abstract parameters in `init`. They give an abstract state.
    is_abstract = x is None or isinstance(x, jax.ShapeDtypeStruct)
    return x if is_abstract else jnp.array(x, copy=True)


def _check_plain(name: str, updates: Any, params: Any) -> Layout:
    """Returns the layout of the gradients. Raises for a pair or missing parameters."""
    if isinstance(updates, GradientPair):
        raise TypeError(
            f"{name} makes the pair: pass it the empirical gradient alone, or combine "
            "several regularizers with mix_regularizers"
        )
    if params is None:
        raise ValueError(f"{name} needs the parameters: call update(g, state, params)")
    return Layout(updates)


def _flags(name: str, tree: Any, layout: Layout, params: Any, **default: Any) -> list:
    """The boolean for each array, from a tree or a function that returns one."""
    flags = layout.match(_trees.resolve(tree, params), name, **default)
    _checks.entries(name, layout, flags, "booleans", bool | np.bool_)
    return flags
