"""Penalties on the distance from a pretrained network, as pure functions."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dtnh_jax import _checks, _precision, _regularizers, _trees


def l2_sp_penalty(
    params: optax.Params,
    pretrained: optax.Params,
    alpha: float | jax.Array,
    beta: float | jax.Array = 0.0,
) -> jax.Array:
    r"""Computes the L2-SP penalty, the squared distance from the pretrained parameters.

    .. math:: \Omega(w) = \frac\alpha2\|w_S - w_S^0\|^2 + \frac\beta2\|w_{\bar S}\|^2

    where :math:`S` are the pretrained arrays and :math:`\bar S` the new ones (`Li et
    al., 2018 <https://arxiv.org/abs/1802.01483>`_). :func:`l2_sp` computes its
    gradient.

    .. warning::
      Flax NNX updates parameters in place, including those in ``nnx.state(model)``. So
      copy them: ``pretrained = jax.tree.map(jnp.copy, nnx.state(model, nnx.Param))``.

    Args:
      params: Parameters :math:`w`.
      pretrained: Pretrained parameters :math:`w^0`, as in :func:`l2_sp`: matched by
        path, with ``None`` for new arrays.
      alpha: Weight of the distance from the pretrained arrays, non-negative.
      beta: Weight of the norm of the new arrays, non-negative.

    Returns:
      A scalar, in float32, or in float64 if any parameter is that precise.

    Raises:
      ValueError: If a weight is negative, or ``pretrained`` does not match ``params``.

    Examples:
      >>> import jax.numpy as jnp
      >>> from dtnh_jax import l2_sp_penalty
      >>> pretrained = {"body": jnp.array([1.0, 2.0]), "head": None}
      >>> params = {"body": jnp.array([1.0, 4.0]), "head": jnp.ones(3)}
      >>> print(l2_sp_penalty(params, pretrained, alpha=0.1, beta=0.02))
      0.23
    """
    _checks.number("alpha", alpha, "non-negative and finite")
    _checks.number("beta", beta, "non-negative and finite")
    layout = _trees.Layout(params)
    is_new = [False] * len(layout)
    anchors = _regularizers.anchors_of(pretrained, layout, params, is_new)
    away = list(map(_regularizers.deviation, layout.arrays(params), anchors))
    dtype = _precision.accumulator(away)
    total = jnp.zeros((), dtype)
    for x, w0 in zip(away, anchors, strict=True):
        factor = jnp.asarray(beta if w0 is None else alpha, dtype) / 2
        total = total + factor * jnp.sum(_square(x)).astype(dtype)
    return total


def feature_distillation(
    student: Any, teacher: Any, channel_weights: Any | None = None
) -> jax.Array:
    r"""Computes half the squared distance between the feature maps of two networks.

    .. math:: \Omega = \sum_m \frac1{2B}\sum_{b=1}^B\sum_c
      a_{m,c}\,\|s_{m,b,c} - t_{m,b,c}\|^2

    over the maps :math:`m`, the examples :math:`b` and the channels :math:`c`. If each
    channel is weighted by its importance, this is, up to scale, the behavioral
    regularizer of DELTA (`Li et al., 2019 <https://arxiv.org/abs/1901.09229>`_).

    Args:
      student: Feature maps of the network being trained, a pytree of floating-point or
        complex arrays of shape ``[batch, ..., channels]``.
      teacher: Feature maps of the pretrained network, with the same structure and
        shapes. No gradient flows into them.
      channel_weights: Weights :math:`a`, in the same structure: a vector of shape
        ``[channels]`` for each map, or None for weights of 1.

    Returns:
      A scalar, in float32, or in float64 if any map is that precise.

    Raises:
      ValueError: If maps or weights do not match, or a map has fewer than two axes.
      TypeError: If two maps are neither both floating-point nor both complex.

    Examples:
      >>> import jax.numpy as jnp
      >>> from dtnh_jax import feature_distillation
      >>> student = {"block": jnp.ones((8, 4, 4, 2))}
      >>> teacher = {"block": jnp.zeros((8, 4, 4, 2))}
      >>> print(feature_distillation(student, teacher))
      16.0
      >>> weights = {"block": jnp.array([1.0, 0.25])}
      >>> print(feature_distillation(student, teacher, weights))
      10.0
    """
    names = "teacher's feature map", "student's feature map"
    _checks.same_structure(teacher, student, names)
    layout = _trees.Layout(student)
    maps, targets = layout.arrays(student), layout.arrays(teacher)
    weights = layout.match(channel_weights, "channel_weights")
    dtype = _precision.accumulator(maps + targets)
    total = jnp.zeros((), dtype)
    for path, s, t, a in zip(layout.paths, maps, targets, weights, strict=True):
        if s.ndim < 2:
            raise ValueError(
                "a feature map must have shape [batch, ..., channels], got "
                f"{s.shape} {_trees.at(path)}"
            )
        if a is not None and jnp.shape(a) != s.shape[-1:]:
            raise ValueError(
                f"`channel_weights` has shape {jnp.shape(a)} {_trees.at(path)}, where "
                f"the feature map has shape {s.shape}; it must be {s.shape[-1:]}"
            )
        s, t = (_precision.accumulate_in(dtype, x) for x in (s, t))
        by_channel = jnp.sum(_square(s - jax.lax.stop_gradient(t)), range(s.ndim - 1))
        if a is not None:
            by_channel = by_channel * jnp.asarray(a, dtype)
        total = total + jnp.sum(by_channel) / (2 * s.shape[0])
    return total


def logit_distillation(
    student: jax.Array,
    teacher: jax.Array,
    temperature: float | jax.Array = 1.0,
    mask: jax.Array | None = None,
) -> jax.Array:
    r"""Computes the distillation loss between the logits of two networks.

    .. math:: \Omega = T^2\cdot\frac1{|V|}\sum_{b\in V}
      \mathrm{KL}\big(\mathrm{softmax}(t_b/T)\,\big\|\,\mathrm{softmax}(s_b/T)\big)

    where :math:`V` is the set of valid positions (`Hinton et al., 2015
    <https://arxiv.org/abs/1503.02531>`_). The factor :math:`T^2` makes the scale of the
    gradient independent of the temperature.

    Args:
      student: Logits of the network being trained, of shape ``[..., classes]``.
      teacher: Logits of the pretrained network, of the same shape. No gradient flows
        into them. A class with logit -inf has probability zero and adds nothing.
      temperature: Temperature :math:`T`, positive. No gradient flows into it.
      mask: Boolean array of shape ``[...]``, True at valid positions, such as tokens
        that are not padding. Other positions contribute nothing, even if non-finite.

    Returns:
      A scalar, in float32, or in float64 if any logits are that precise. It is zero if
      no position is valid. Where ``student == teacher``, the gradient is exactly zero.
      Non-finite inputs propagate, and a row whose logits are all -inf gives NaN.

    Raises:
      ValueError: If the shapes do not match, or the temperature is not positive.
      TypeError: If the logits are not floating-point, or ``mask`` is not boolean.

    Examples:
      >>> import jax.numpy as jnp
      >>> from dtnh_jax import logit_distillation
      >>> teacher = jnp.array([[2.0, 0.0], [0.0, 2.0]])
      >>> student = jnp.zeros((2, 2))
      >>> print(f"{logit_distillation(student, teacher):.4f}")
      0.3278
      >>> print(f"{logit_distillation(student, teacher, temperature=10.0):.4f}")
      0.4975
      >>> mask = jnp.array([True, False])  # the second row is padding
      >>> print(f"{logit_distillation(student, teacher, mask=mask):.4f}")
      0.3278
    """
    _checks.number("temperature", temperature, "positive and finite")
    student, teacher = jnp.asarray(student), jnp.asarray(teacher)
    for name, x in ("student", student), ("teacher", teacher):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"{name}'s logits must be floating-point, got {x.dtype}")
    if student.shape != teacher.shape or student.ndim == 0:
        raise ValueError(
            "student and teacher logits must have the same shape [..., classes], got "
            f"{student.shape} and {teacher.shape}"
        )
    shape = student.shape[:-1]
    valid = jnp.ones(shape, bool) if mask is None else jnp.asarray(mask)
    if valid.dtype != jnp.bool_:
        raise TypeError(f"`mask` must be boolean, got dtype {valid.dtype}")
    if valid.shape != shape:
        raise ValueError(
            f"`mask` must have shape {shape}, the logits' shape without the classes, "
            f"got {valid.shape}"
        )
    # Mask the inputs too: through the `where` below alone, the gradient is 0 * NaN.
    student, teacher = (jnp.where(valid[..., None], x, 0) for x in (student, teacher))
    dtype = _precision.accumulator([student, teacher])
    t, teacher = jax.lax.stop_gradient((jnp.asarray(temperature, dtype), teacher))
    divergence = _divergence(student.astype(dtype) / t, teacher.astype(dtype) / t)
    total = jnp.sum(jnp.where(valid, divergence, 0))
    return t**2 * total / jnp.maximum(jnp.sum(valid), 1).astype(dtype)


@jax.custom_jvp
def _divergence(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """``KL(softmax(teacher) || softmax(student))`` along the last axis."""
    p, log_p = jax.nn.softmax(teacher), jax.nn.log_softmax(teacher)
    log_q = jax.nn.log_softmax(student)
    return jnp.sum(jnp.where(p == 0, 0, p * (log_p - log_q)), axis=-1)


@_divergence.defjvp
def _divergence_jvp(primals, tangents):
    # With respect to the student only. Automatic differentiation would give
    # softmax(student) * sum(p) - p. Since sum(p) is 1 only up to rounding, that is not
    # zero where the two agree.
    student, teacher = primals
    difference = jax.nn.softmax(student) - jax.nn.softmax(teacher)
    return _divergence(student, teacher), jnp.sum(difference * tangents[0], axis=-1)


def _square(x: jax.Array) -> jax.Array:
    """``|x|**2``, elementwise; its gradient at zero is zero, not NaN."""
    return jnp.real(jnp.conj(x) * x)
