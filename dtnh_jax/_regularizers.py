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
      anchor: the pretrained parameters :math:`w^0`, shaped like the parameters; None in
        place of what is new.
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

    The penalty, from the starting point :math:`w^0` (Li et al., 2018, equation 2), is

    .. math:: \Omega(w) = \frac\alpha2\|w_S - w_S^0\|^2 + \frac\beta2\|w_{\bar S}\|^2

    where :math:`S` are the arrays that were pretrained and :math:`\bar S` the new ones.
    Its gradient, :math:`\alpha(w - w^0)` and :math:`\beta w`, is analytic: there is no
    second backward pass.

    The anchor :math:`w^0` is copied into the state by ``init``. By default it is the
    parameters given to ``init``, so initialise the optimizer after loading the
    pretrained parameters. It is saved and restored with the optimizer's state, and
    sharded with it.

    Args:
      alpha: weight of the distance from the pretrained arrays, not negative.
      beta: weight of the norm of the new arrays, not negative.
      pretrained: the anchor, if it is not the parameters given to ``init``: a pytree
        matched to them by path, so that a dict, a ``FrozenDict``, an NNX state and a
        module may stand for one another, with ``None`` in place of each array, or
        whole subtree, that is new.
      new: which arrays are new: a pytree of booleans matched by path (a boolean holds
        for everything below it; arrays that are not named are not new), or a function
        from the parameters to such a pytree.

    Returns:
      A transformation from gradients to :class:`GradientPair`, to be followed by
      :func:`dtnh` or an optimizer made from it, with an :class:`L2SpState`. Its
      ``update`` needs ``params``, whose dtypes the regularizer gradient has.

    Raises:
      ValueError: if a weight is negative; from ``init``, if ``pretrained`` lacks an
        array or has one of another shape, or an entry of ``pretrained`` or ``new``
        matches nothing; from ``update``, if ``params`` is missing.
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
        return L2SpState(
            layout.build(
                None if n else _copy(a) for a, n in zip(anchors, is_new, strict=True)
            )
        )

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        layout = _check_plain("l2_sp", updates, params)

        def pull(w, w0):
            w = jnp.asarray(w)
            away, factor = deviation(w, w0), beta if w0 is None else alpha
            return _scaled(away, factor).astype(w.dtype)

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
      mask: as in ``optax.add_decayed_weights``, which arrays are decayed: a pytree of
        booleans matched by path (a boolean holds for everything below it), or a
        function from the parameters to such a pytree; by default all. Often False for
        biases and the scales of normalization layers.

    Returns:
      A stateless transformation from gradients to :class:`GradientPair`, to be followed
      by :func:`dtnh` or an optimizer made from it. Its ``update`` needs ``params``,
      whose dtypes the regularizer gradient has.

    Raises:
      ValueError: if ``alpha`` is negative; from ``update``, if ``params`` is missing,
        an array has no entry in ``mask``, or an entry matches nothing.
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
            w = jnp.asarray(w)
            wide = deviation(w, None)
            return _scaled(wide, alpha if decays else 0.0).astype(w.dtype)

        r = map(pull, layout.leaves(params), decayed)
        return GradientPair(updates, layout.build(r)), state

    return optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(), update_fn
    )


def anchors_of(
    pretrained: Any, layout: _trees.Layout, params: Any, is_new: list[bool]
) -> list[Any]:
    """The pretrained array of each parameter, or None where it is new."""
    anchors = layout.match(pretrained, "pretrained", default=_ABSENT)
    arrays = zip(layout.paths, layout.leaves(params), anchors, is_new, strict=True)
    return [None if n else _anchor(path, w, w0) for path, w, w0, n in arrays]


def deviation(w: jax.Array, w0: Any | None) -> jax.Array:
    """``w - w0`` in float32 at least, or ``w`` itself where it is new."""
    dtype = _precision.accumulator([w])
    wide = _precision.accumulate_in(dtype, w)
    if w0 is None:
        return wide
    return wide - _precision.accumulate_in(dtype, jnp.asarray(w0))


_ABSENT = object()


def _anchor(path: _trees.Path, w: Any, w0: Any) -> Any:
    if w0 is None:
        return None
    if w0 is _ABSENT:
        raise ValueError(
            f"`pretrained` has no array for the parameter {_trees.at(path)}: make the "
            "key paths match, or, if the parameter is new, put None there"
        )
    _checks.same_kind(w, w0, ("parameter", "pretrained array"), path)
    if jnp.shape(w0) != jnp.shape(w):
        raise ValueError(
            f"pretrained array has shape {jnp.shape(w0)} {_trees.at(path)}, the "
            f"parameter {jnp.shape(w)}; put None there if it is new"
        )
    return w0


def _copy(x: Any) -> Any:
    """A buffer of its own, so that parameters and state can be donated."""
    # Abstract parameters, which Optax allows in `init`, make an abstract state.
    if x is None or isinstance(x, jax.ShapeDtypeStruct):
        return x
    return jnp.array(x, copy=True)


def _scaled(x: jax.Array, factor: Any) -> jax.Array:
    return _precision.times(x, jnp.asarray(factor))


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
