"""Ready-made optimizers. Their defaults are the steady rule."""

from typing import Any

import jax
import optax

from dtnh_jax import _axes, _checks, _groups
from dtnh_jax._transform import dtnh


def dtnh_sgd(  # noqa: D417 (the rule misses arguments that share an entry)
    learning_rate: optax.ScalarOrSchedule,
    momentum: float | jax.Array | None = None,
    nesterov: bool = False,
    *,
    weight: optax.ScalarOrSchedule = 1.0,
    granularity: _groups.Granularity = "layer",
    on_conflict: str = "project",
    reference_decay: float | jax.Array | None = 0.99,
    max_ratio: float | jax.Array | None = 0.3,
    stacked: _groups.Stacked = None,
    axis_name: _axes.AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""SGD on the empirical gradient, with the regularizer added by DTNH.

    The update is :math:`-\eta\,(u + r')`, where :math:`u` is the momentum of the
    empirical gradient and :math:`r'` is the part of the regularizer that :func:`dtnh`
    keeps. The defaults are the steady rule: in each layer, conflict is tested against
    the average gradient of the previous steps, :math:`r'` is at most 0.3 times as long
    as :math:`u`, and :math:`u + r'` is shortened to the length of :math:`u` if it is
    longer.

    Args:
      learning_rate: step size η, a number or a schedule.
      momentum, nesterov: as in ``optax.sgd``.
      weight: regularizer weight λ, a number or a schedule. It is decoupled from the
        momentum, and has no effect where ``max_ratio`` caps the regularizer.
      granularity, on_conflict, reference_decay, max_ratio, stacked, axis_name: see
        :func:`dtnh`.

    Returns:
      An optimizer that takes pairs, such as those from :func:`mix_regularizers`.

    Raises:
      ValueError, TypeError: as :func:`dtnh`.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from dtnh_jax import dtnh_sgd, l2, l2_sp, mix_regularizers
      >>> params = {"w": jnp.array([[1.0, 2.0]])}
      >>> tx = optax.chain(mix_regularizers(l2_sp(), l2()), dtnh_sgd(0.1, momentum=0.9))
      >>> grads = {"w": jnp.array([[1.0, 0.0]])}
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> print(updates["w"])  # the first step has no regularization
      [[-0.1 -0. ]]
    """
    return _optimizer(
        learning_rate,
        weight,
        inner=None if momentum is None else optax.trace(momentum, nesterov),
        granularity=granularity,
        on_conflict=on_conflict,
        reference_decay=reference_decay,
        max_ratio=max_ratio,
        stacked=stacked,
        axis_name=axis_name,
    )


def dtnh_adamw(  # noqa: D417
    learning_rate: optax.ScalarOrSchedule,
    b1: float | jax.Array = 0.9,
    b2: float | jax.Array = 0.999,
    eps: float | jax.Array = 1e-8,
    *,
    weight: optax.ScalarOrSchedule = 1.0,
    weight_decay: float | jax.Array = 0.0,
    granularity: _groups.Granularity = "layer",
    on_conflict: str = "project",
    reference_decay: float | jax.Array | None = 0.99,
    max_ratio: float | jax.Array | None = 0.3,
    stacked: _groups.Stacked = None,
    axis_name: _axes.AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AdamW on the empirical gradient, with the regularizer added by DTNH.

    Like :func:`dtnh_sgd`, but :math:`u` is the update that AdamW (`Loshchilov and
    Hutter, 2019 <https://arxiv.org/abs/1711.05101>`_) makes from the empirical
    gradient. Adam rescales every coordinate and does not move along the gradient, so
    conflict is tested against the average :math:`u` of the previous steps.

    Args:
      learning_rate: step size η, a number or a schedule.
      b1, b2, eps: as in ``optax.adamw``.
      weight: as in :func:`dtnh_sgd`; not divided by the second moment.
      weight_decay: AdamW's own weight decay, of all arrays, biases included; by default
        0, unlike that of ``optax.adamw``. It is part of :math:`u`: unlike :func:`l2`,
        it is not projected, and conflict is tested against it.
      granularity, on_conflict, reference_decay, max_ratio, stacked, axis_name: see
        :func:`dtnh`.

    Returns:
      An optimizer that takes pairs, like that of :func:`dtnh_sgd`.

    Raises:
      ValueError, TypeError: as :func:`dtnh`.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from dtnh_jax import dtnh_adamw, l2, l2_sp, mix_regularizers
      >>> params = {"w": jnp.array([[1.0, 2.0]])}
      >>> tx = optax.chain(mix_regularizers(l2_sp(), l2()), dtnh_adamw(0.1))
      >>> grads = {"w": jnp.array([[4.0, 0.0]])}
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> [f"{x:.2f}" for x in updates["w"][0]]
      ['-0.10', '-0.00']
    """
    adam = optax.scale_by_adam(b1, b2, eps)
    return _optimizer(
        learning_rate,
        weight,
        inner=optax.chain(adam, optax.add_decayed_weights(weight_decay)),
        reference="update",
        granularity=granularity,
        on_conflict=on_conflict,
        reference_decay=reference_decay,
        max_ratio=max_ratio,
        stacked=stacked,
        axis_name=axis_name,
    )


def _optimizer(
    learning_rate: optax.ScalarOrSchedule, weight: Any, **options: Any
) -> optax.GradientTransformationExtraArgs:
    if not callable(learning_rate):
        _checks.number("learning_rate", learning_rate, "a number")
    rate = optax.scale_by_learning_rate(learning_rate)
    return optax.chain(dtnh(weight, **options), rate)
