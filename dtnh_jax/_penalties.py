"""The penalties Ω that keep a network near its pretrained self, as pure functions."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dtnh_jax import _checks, _precision, _regularizers


def l2_sp_penalty(
    params: optax.Params,
    pretrained: optax.Params,
    alpha: float | jax.Array,
    beta: float | jax.Array = 0.0,
) -> jax.Array:
    r"""The squared distance from the starting point, L2-SP.

    .. math:: \Omega(w) = \frac\alpha2\|w_S - w_S^0\|^2 + \frac\beta2\|w_{\bar S}\|^2

    where :math:`S` are the arrays that were pretrained and :math:`\bar S` the new ones.
    Its gradient is the regularizer that :func:`l2_sp` writes down without a backward
    pass; where that serves, it is the cheaper way.

    Args:
      params: the parameters :math:`w`, a pytree of floating-point or complex arrays.
      pretrained: the pretrained parameters :math:`w^0`, with ``None`` in place of each
        array, or whole subtree, that is new. Matched to the parameters by path, as in
        :func:`l2_sp`.
      alpha: weight of the distance from the pretrained arrays, not negative.
      beta: weight of the norm of the new arrays, not negative.

    Returns:
      A scalar, summed in float32 or, if any parameter is that precise, in float64.

    Raises:
      ValueError: if a weight is negative, or ``params`` has an array that is not in
        ``pretrained`` or is of another shape there.

    Examples:
      >>> import jax.numpy as jnp
      >>> from dtnh_jax import l2_sp_penalty
      >>> pretrained = {"body": jnp.array([1.0, 2.0]), "head": None}
      >>> params = {"body": jnp.array([1.0, 4.0]), "head": jnp.ones(3)}
      >>> print(l2_sp_penalty(params, pretrained, alpha=0.1, beta=0.02))
      0.23

    References:
      Li et al., `Explicit Inductive Bias for Transfer Learning with Convolutional
      Networks <https://arxiv.org/abs/1802.01483>`_, 2018
    """
    _checks.not_negative("alpha", alpha)
    _checks.not_negative("beta", beta)
    anchors = _regularizers.anchors_of(pretrained)
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    deviations = [_regularizers.deviation(anchors, path, w) for path, w in flat]
    dtype = _precision.accumulator([away for away, _ in deviations])
    total = jnp.zeros((), dtype)
    for away, is_new in deviations:
        factor = jnp.asarray(beta if is_new else alpha, dtype) / 2
        total = total + factor * jnp.sum(_square(away)).astype(dtype)
    return total


def feature_distillation(
    student: Any, teacher: Any, channel_weights: Any | None = None
) -> jax.Array:
    r"""Half the squared distance between two networks' feature maps.

    .. math:: \Omega = \sum_m \frac1{2B}\sum_{b=1}^B\sum_c
      a_{m,c}\,\|s_{m,b,c} - t_{m,b,c}\|^2

    over the maps :math:`m`, the examples :math:`b` of the batch and the channels
    :math:`c`, where :math:`s_{m,b,c}` is one channel of a map, all its positions in one
    vector. Without weights, :math:`a = 1`: the squared Euclidean distance of the
    flattened maps. With the importance of each channel as its weight it is the
    behavioural regularizer of DELTA, whose weights each sum to one over a map's
    channels, and whose definition has the sum over the examples and no factor of a
    half: only the weight λ tells the two apart.

    Args:
      student: feature maps of the network in training, a pytree of floating-point or
        complex arrays of shape ``[batch, ..., channels]``.
      teacher: those of the pretrained network for the same inputs, of the same
        structure and shapes. No gradient flows into them.
      channel_weights: the weights :math:`a`, of the structure of ``student``, for each
        map one vector of shape ``[channels]``, or None for a map of which every channel
        weighs 1. None: so do all.

    Returns:
      A scalar, summed in float32 or, if any map is that precise, in float64.

    Raises:
      ValueError: if the two trees differ in structure or shapes, a map has fewer than
        two axes, or the weights do not fit.
      TypeError: if the maps are not all floating-point or all complex.

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

    References:
      Li et al., `DELTA: Deep Learning Transfer using Feature Map with Attention for
      Convolutional Networks <https://arxiv.org/abs/1901.09229>`_, 2019
    """
    names = "teacher's feature map", "student's feature map"
    _checks.same_structure(teacher, student, names)
    student, teacher = (jax.tree.map(jnp.asarray, x) for x in (student, teacher))
    flat, treedef = jax.tree_util.tree_flatten_with_path(student)
    targets = jax.tree.leaves(teacher)
    weights = _channel_weights(channel_weights, flat, treedef)
    dtype = _precision.accumulator([x for _, x in flat] + targets)
    total = jnp.zeros((), dtype)
    for (path, s), t, a in zip(flat, targets, weights, strict=True):
        if s.ndim < 2:
            raise ValueError(
                "a feature map must be of shape [batch, ..., channels], got "
                f"{s.shape} {_checks.at(path)}"
            )
        s, t = (_precision.accumulate_in(dtype, x) for x in (s, t))
        by_channel = jnp.sum(_square(s - jax.lax.stop_gradient(t)), range(s.ndim - 1))
        if a is not None:
            by_channel = by_channel * a.astype(dtype)
        total = total + jnp.sum(by_channel) / (2 * s.shape[0])
    return total


def logit_distillation(
    student: jax.Array, teacher: jax.Array, temperature: float | jax.Array = 1.0
) -> jax.Array:
    r"""How far the student's predictions are from the teacher's, both softened.

    .. math:: \Omega = T^2\cdot\frac1B\sum_{b=1}^B
      \mathrm{KL}\big(\mathrm{softmax}(t_b/T)\,\big\|\,\mathrm{softmax}(s_b/T)\big)

    The factor :math:`T^2` keeps the size of the gradient from falling with the
    temperature :math:`T`.

    Args:
      student: logits of the network in training, shape ``[..., classes]``,
        floating-point. All axes but the last are the batch :math:`B`.
      teacher: logits of the pretrained network, of the same shape. No gradient flows
        into them. A class whose logit is -inf there has probability zero.
      temperature: T, above zero. No gradient flows into it.

    Returns:
      A scalar, summed in float32, or in float64 if the logits are that precise. At
      ``student == teacher`` the gradient is zero exactly.

    Raises:
      ValueError: if the shapes differ, or have no axis, or the temperature is not
        positive.
      TypeError: if the logits are not floating-point.

    Examples:
      >>> import jax.numpy as jnp
      >>> from dtnh_jax import logit_distillation
      >>> teacher = jnp.array([[2.0, 0.0], [0.0, 2.0]])
      >>> student = jnp.zeros((2, 2))
      >>> print(f"{logit_distillation(student, teacher):.4f}")
      0.3278
      >>> print(f"{logit_distillation(student, teacher, temperature=10.0):.4f}")
      0.4975

    References:
      Hinton et al., `Distilling the Knowledge in a Neural Network
      <https://arxiv.org/abs/1503.02531>`_, 2015
    """
    _checks.positive("temperature", temperature)
    student, teacher = jnp.asarray(student), jnp.asarray(teacher)
    for name, logits in (("student", student), ("teacher", teacher)):
        if not jnp.issubdtype(logits.dtype, jnp.floating):
            raise TypeError(
                f"{name}'s logits must be floating-point, got dtype {logits.dtype}"
            )
    if student.shape != teacher.shape or student.ndim == 0:
        raise ValueError(
            "logits must be of one shape [..., classes], got student's "
            f"{student.shape}, teacher's {teacher.shape}"
        )
    dtype = _precision.accumulator([student, teacher])
    t = jax.lax.stop_gradient(jnp.asarray(temperature, dtype))
    divergence = _divergence(
        student.astype(dtype) / t, jax.lax.stop_gradient(teacher).astype(dtype) / t
    )
    return t**2 * jnp.mean(divergence)


@jax.custom_jvp
def _divergence(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """``KL(softmax(teacher) || softmax(student))`` along the last axis."""
    p, log_p = jax.nn.softmax(teacher), jax.nn.log_softmax(teacher)
    log_q = jax.nn.log_softmax(student)
    return jnp.sum(jnp.where(p == 0, 0, p * (log_p - log_q)), axis=-1)


@_divergence.defjvp
def _divergence_jvp(primals, tangents):
    """In the student alone, ``softmax(student) - softmax(teacher)``.

    Differentiated step by step it would be ``softmax(student) * sum(p) - p``, which is
    further from zero where the two agree, as the sum is 1 only up to rounding.
    """
    student, teacher = primals
    difference = jax.nn.softmax(student) - jax.nn.softmax(teacher)
    return _divergence(student, teacher), jnp.sum(difference * tangents[0], axis=-1)


def _channel_weights(channel_weights: Any, flat: list[Any], treedef: Any) -> list[Any]:
    """The weights of each map, or None, in flattening order, checked."""
    if channel_weights is None:
        return [None] * len(flat)
    try:
        weights = treedef.flatten_up_to(channel_weights)
    except ValueError as error:
        raise ValueError(
            "`channel_weights` must have the structure of the feature maps, with a "
            f"vector or None for each: {error}"
        ) from error
    for (path, x), a in zip(flat, weights, strict=True):
        if a is not None and jnp.shape(a) != x.shape[-1:]:
            raise ValueError(
                f"`channel_weights` has shape {jnp.shape(a)} {_checks.at(path)}, where "
                f"the feature map has shape {x.shape}; it must be {x.shape[-1:]}"
            )
    return weights


def _square(x: jax.Array) -> jax.Array:
    """``|x|**2`` entry by entry; of gradient zero, not NaN, at zero."""
    return jnp.real(jnp.conj(x) * x)
