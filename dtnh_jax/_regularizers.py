"""Regularizers of the parameters alone: transformations that make the pair."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dtnh_jax import _checks, _precision, _trees
from dtnh_jax._pair import GradientPair


class L2SpState(NamedTuple):
    """State of :func:`l2_sp`.

    Attributes:
      anchor: the pretrained parameters :math:`w^0`; None in place of what is new.
    """

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

    where :math:`S` are the arrays that were pretrained and :math:`\bar S` the new ones.
    Its gradient, :math:`\alpha(w - w^0)` and :math:`\beta w`, is analytic: there is no
    second backward pass.

    The anchor :math:`w^0` is copied into the state by ``init``, and saved, restored and
    sharded with it. By default it is the parameters given to ``init``, so initialise
    the optimizer after loading the pretrained parameters.

    Args:
      alpha: weight of the distance from the pretrained arrays, not negative.
      beta: weight of the norm of the new arrays, not negative.
      pretrained: the anchor, if it is not the parameters given to ``init``: a pytree
        matched to them by path, whatever its containers, with ``None`` in place of each
        array, or whole subtree, that is new.
      new: which arrays are new: a pytree of booleans matched by path (a boolean holds
        for everything below it; arrays that are not named are not new), or a function
        from the parameters to such a pytree.

    Returns:
      A transformation from gradients to :class:`GradientPair`, to be followed by
      :func:`dtnh` or an optimizer made from it, with an :class:`L2SpState`. Its
      ``update`` needs ``params``, whose dtypes the regularizer gradient has.

    Raises:
      ValueError: if a weight is negative; from ``init``, if ``pretrained`` or ``new``
        does not match the parameters; from ``update``, if ``params`` is missing.
      TypeError: from ``update``, if it is given a pair.

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

    References:
      Li et al., `Explicit Inductive Bias for Transfer Learning with Convolutional
      Networks <https://arxiv.org/abs/1802.01483>`_, 2018
    """
    _checks.not_negative("alpha", alpha)
    _checks.not_negative("beta", beta)

    def init_fn(params: optax.Params) -> L2SpState:
        layout = _trees.Layout(params)
        is_new = _flags("new", new, layout, params, default=False)
        anchors = layout.leaves(params)
        if pretrained is not None:
            anchors = anchors_of(pretrained, layout, params, is_new)
        anchors = zip(anchors, is_new, strict=True)
        return L2SpState(layout.build(None if n else _copy(x) for x, n in anchors))

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        layout = _check_plain("l2_sp", updates, params)

        def pull(w, w0):
            return _pull(w, w0, beta if w0 is None else alpha)

        r = map(pull, layout.leaves(params), layout.leaves(state.anchor))
        return GradientPair(updates, layout.build(r)), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def l2(
    alpha: float | jax.Array = 1.0, mask: Any | None = None
) -> optax.GradientTransformationExtraArgs:
    r"""Turns plain gradients into pairs, with the gradient of the L2 penalty.

    The penalty is :math:`\frac\alpha2\|w\|^2` and its gradient :math:`\alpha w`. After
    :func:`dtnh`, this is weight decay that does not oppose the empirical loss.

    Args:
      alpha: weight of the penalty, not negative.
      mask: which arrays are decayed: a pytree of booleans matched by path (a boolean
        holds for everything below it), or a function from the parameters to such a
        pytree; by default all. Often False for biases and the scales of normalization.

    Returns:
      A transformation as that of :func:`l2_sp`, without a state.

    Raises:
      ValueError: if ``alpha`` is negative; from ``update``, if ``params`` is missing or
        ``mask`` does not match it.
      TypeError: from ``update``, if it is given a pair.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from dtnh_jax import dtnh, l2
      >>> params = {"kernel": jnp.array([1.0, 2.0]), "bias": jnp.ones(1)}
      >>> mask = {"kernel": True, "bias": False}
      >>> tx = optax.chain(l2(mask=mask), dtnh(0.1), optax.sgd(1.0))
      >>> grads = {"kernel": jnp.array([1.0, 1.0]), "bias": jnp.ones(1)}
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> updates["kernel"], updates["bias"]
      (Array([-1.1, -1.2], dtype=float32), Array([-1.], dtype=float32))
    """
    _checks.not_negative("alpha", alpha)

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        layout = _check_plain("l2", updates, params)
        decayed = [True] * len(layout)
        if mask is not None:
            decayed = _flags("mask", mask, layout, params)

        def pull(w, decays):
            return _pull(w, None, alpha if decays else 0.0)

        r = map(pull, layout.leaves(params), decayed)
        return GradientPair(updates, layout.build(r)), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update_fn)


def anchors_of(
    pretrained: Any, layout: _trees.Layout, params: Any, is_new: list[bool]
) -> list[Any]:
    """The pretrained array of each parameter, or None where it is new."""
    absent = object()
    anchors = layout.match(pretrained, "pretrained", default=absent)
    for i, w in enumerate(layout.leaves(params)):
        path, w0 = layout.paths[i], anchors[i]
        if is_new[i] or w0 is None:
            anchors[i] = None
            continue
        if w0 is absent:
            raise ValueError(
                f"`pretrained` has no array for the parameter {_trees.at(path)}: make "
                "the key paths match, or, if the parameter is new, put None there"
            )
        _checks.same_kind(w, w0, ("parameter", "pretrained array"), path)
        if jnp.shape(w0) != jnp.shape(w):
            raise ValueError(
                f"pretrained array has shape {jnp.shape(w0)} {_trees.at(path)}, the "
                f"parameter {jnp.shape(w)}; put None there if it is new"
            )
    return anchors


def deviation(w: jax.Array, w0: Any | None) -> jax.Array:
    """``w - w0`` in float32 at least, or ``w`` itself where it is new."""
    dtype = _precision.accumulator([w])
    wide = _precision.accumulate_in(dtype, w)
    if w0 is None:
        return wide
    return wide - _precision.accumulate_in(dtype, jnp.asarray(w0))


def _pull(w: Any, w0: Any | None, factor: Any) -> jax.Array:
    """``factor`` times the deviation, in the dtype of ``w``."""
    w = jnp.asarray(w)
    away = deviation(w, w0)
    return _precision.times(away, jnp.asarray(factor)).astype(w.dtype)


def _copy(x: Any) -> Any:
    """A buffer of its own, so that parameters and state can be donated."""
    # Abstract parameters, which Optax allows in `init`, make an abstract state.
    if x is None or isinstance(x, jax.ShapeDtypeStruct):
        return x
    return jnp.array(x, copy=True)


def _check_plain(name: str, updates: Any, params: Any) -> _trees.Layout:
    """The layout of the gradients; raises for a pair, and without parameters."""
    if isinstance(updates, GradientPair):
        raise TypeError(
            f"{name} makes the pair: give it the empirical gradient alone, not a "
            "GradientPair; mix_regularizers combines several regularizers"
        )
    if params is None:
        raise ValueError(f"{name} needs the parameters: call update(g, state, params)")
    return _trees.Layout(updates)


def _flags(
    name: str, entries: Any, layout: _trees.Layout, params: Any, **default: Any
) -> list[bool]:
    """The boolean of each array, from a tree or a function that makes one."""
    entries = _trees.resolve(entries, params)
    if entries is None:
        return [False] * len(layout)
    flags = layout.match(entries, name, **default)
    for path, flag in zip(layout.paths, flags, strict=True):
        _checks.boolean(name, flag, path)
    return flags
