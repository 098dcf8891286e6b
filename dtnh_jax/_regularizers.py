"""Regularizers: transformations that make the pair."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import keystr

from dtnh_jax import _checks, _precision
from dtnh_jax._pair import GradientPair


def l2_sp(
    pretrained: optax.Params,
    alpha: float | jax.Array,
    beta: float | jax.Array = 0.0,
) -> optax.GradientTransformationExtraArgs:
    r"""Turns plain gradients into pairs, with the gradient of the L2-SP penalty.

    The penalty, from the starting point :math:`w^0` (Li et al., 2018, equation 2), is

    .. math:: \Omega(w) = \frac\alpha2\|w_S - w_S^0\|^2 + \frac\beta2\|w_{\bar S}\|^2

    where :math:`S` are the arrays that were pretrained and :math:`\bar S` the new ones.
    Its gradient, :math:`\alpha(w - w^0)` and :math:`\beta w`, is written down directly:
    there is no second backward pass, and nothing is stored.

    Args:
      pretrained: the pretrained parameters :math:`w^0`, with ``None`` in place of each
        array, or whole subtree, that is new. Matched to the parameters by path, so a
        dict, a ``FrozenDict`` and an NNX state may stand for one another. Under
        ``jax.jit`` they become constants of the program; for very large networks,
        build the transformation inside the jitted function and pass them as arguments.
      alpha: weight of the distance from the pretrained arrays, not negative.
      beta: weight of the norm of the new arrays, not negative.

    Returns:
      A stateless transformation from gradients to :class:`GradientPair`, to be followed
      by :func:`dtnh`. Its ``update`` needs ``params``.

    Raises:
      ValueError: if a weight is negative; from ``update``, if ``params`` is missing,
        or has an array that is not in ``pretrained`` or is of another shape there.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from dtnh_jax import dtnh, l2_sp
      >>> pretrained = {"body": jnp.array([1.0, 2.0]), "head": None}
      >>> params = {"body": jnp.array([1.0, 3.0]), "head": jnp.ones(1)}
      >>> tx = optax.chain(l2_sp(pretrained, alpha=0.1, beta=0.01), dtnh())
      >>> grads = {"body": jnp.array([1.0, 1.0]), "head": jnp.ones(1)}
      >>> updates, _ = tx.update(grads, tx.init(params), params)
      >>> updates["body"], updates["head"]
      (Array([1. , 1.1], dtype=float32), Array([1.01], dtype=float32))

    References:
      Li et al., `Explicit Inductive Bias for Transfer Learning with Convolutional
      Networks <https://arxiv.org/abs/1802.01483>`_, 2018
    """
    _checks.not_negative("alpha", alpha)
    _checks.not_negative("beta", beta)
    anchors = anchors_of(pretrained)

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        if isinstance(updates, GradientPair):
            raise TypeError(
                "l2_sp makes the pair: give it the empirical gradient alone, "
                "not a GradientPair"
            )
        if params is None:
            raise ValueError(
                "l2_sp needs the parameters: call update(g, state, params)"
            )

        def pull(path, w):
            away, is_new = deviation(anchors, path, w)
            factor = jnp.asarray(beta if is_new else alpha, _precision.accumulator([w]))
            return _precision.times(away, factor).astype(w.dtype)

        r = jax.tree_util.tree_map_with_path(pull, params)
        return GradientPair(empirical=updates, regularizer=r), state

    return optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(), update_fn
    )


def anchors_of(pretrained: Any) -> dict[tuple[str, ...], Any]:
    """The pretrained arrays by path; None where an array or a subtree is new."""
    flat, _ = jax.tree_util.tree_flatten_with_path(pretrained, lambda x: x is None)
    return {_key(path): array for path, array in flat}


def deviation(
    anchors: dict[tuple[str, ...], Any], path: _checks.Path, w: jax.Array
) -> tuple[jax.Array, bool]:
    """``w - w0`` in float32 at least, or ``w`` itself and True where it is new."""
    w0 = _anchor(anchors, path, w)
    dtype = _precision.accumulator([w])
    wide = _precision.accumulate_in(dtype, w)
    if w0 is None:
        return wide, True
    return wide - _precision.accumulate_in(dtype, w0), False


def _key(path) -> tuple[str, ...]:
    return tuple(keystr((k,), simple=True) for k in _checks.without_box(path))


def _anchor(anchors: dict, path: _checks.Path, w: jax.Array) -> jax.Array | None:
    """The pretrained array at ``path``, or None where a None stands at it or above."""
    key = _key(path)
    if key in anchors and anchors[key] is not None:
        w0 = anchors[key]
        _checks.same_kind(w, w0, ("parameter", "pretrained array"), path)
        if jnp.shape(w0) != jnp.shape(w):
            raise ValueError(
                f"pretrained array has shape {jnp.shape(w0)} at {keystr(path)}, the "
                f"parameter {jnp.shape(w)}; put None there if it is new"
            )
        return w0
    for end in range(len(key) + 1):
        if key[:end] in anchors and anchors[key[:end]] is None:
            return None
    names = ["".join(f"[{part!r}]" for part in there) for there in anchors]
    raise ValueError(
        f"`pretrained` has no array for the parameter at {keystr(path)}, but for "
        f"{', '.join(names[:3]) or 'none'}{', ...' if len(names) > 3 else ''}; put "
        "None there if it is new, and otherwise name both trees alike"
    )
