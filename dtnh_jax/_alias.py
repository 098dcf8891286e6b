"""Optimizers ready for use, built from the parts."""

from typing import Any

import jax
import optax

from dtnh_jax import _axes, _checks, _groups
from dtnh_jax._regularizers import l2_sp
from dtnh_jax._transform import dtnh


def dtnh_sgd(
    learning_rate: optax.ScalarOrSchedule,
    momentum: float | jax.Array | None = None,
    nesterov: bool = False,
    *,
    weight: optax.ScalarOrSchedule = 1.0,
    pretrained: optax.Params | None = None,
    granularity: _groups.Granularity = "layer",
    on_conflict: str = "drop",
    reference_decay: float | jax.Array | None = None,
    max_ratio: float | jax.Array | None = 3.0,
    axis_name: _axes.AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""SGD whose momentum sees the empirical gradient only, and DTNH beside it.

    The update is :math:`-\eta\,(u + r')`, with :math:`u` the momentum of the empirical
    gradient and :math:`r'` what :func:`dtnh` leaves of the regularizer. The defaults
    are not the paper's rule, which is ``granularity="global"``,
    ``on_conflict="project"`` and ``max_ratio=None``, but what fell least below
    fine-tuning without a regularizer in the study `never-hurt`.

    Args:
      learning_rate: step size η, a number or a schedule.
      momentum: decay of the momentum, or None for none.
      nesterov: whether the momentum is Nesterov's.
      weight: the regularizer's weight λ, a number or a schedule. Decoupled: a step
        goes back by :math:`\eta\lambda` of the way to ``pretrained``, where there is no
        conflict.
      pretrained: if given, the regularizer is L2-SP towards these parameters, as in
        :func:`l2_sp` with ``alpha=1``, and ``update`` takes plain gradients and
        ``params``. If not, ``update`` takes pairs or ``regularizer_grads``, as that of
        :func:`dtnh`.
      granularity: see :func:`dtnh`.
      on_conflict: see :func:`dtnh`.
      reference_decay: see :func:`dtnh`.
      max_ratio: see :func:`dtnh`.
      axis_name: see :func:`dtnh`.

    Returns:
      An optimizer: its updates are to be added to the parameters.

    Raises:
      ValueError: if an argument is out of range; see :func:`dtnh` and :func:`l2_sp`.
      TypeError: from ``update``, for two gradients where ``pretrained`` was given, and
        for one where it was not.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from dtnh_jax import dtnh_sgd
      >>> params = pretrained = {"w": jnp.array([1.0, 2.0])}
      >>> tx = dtnh_sgd(0.1, momentum=0.9, weight=0.01, pretrained=pretrained)
      >>> grads = {"w": jnp.array([1.0, 0.0])}
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> optax.apply_updates(params, updates)["w"]
      Array([0.9, 2. ], dtype=float32)
    """
    return _chain(
        learning_rate,
        pretrained,
        weight,
        inner=None if momentum is None else optax.trace(momentum, nesterov),
        granularity=granularity,
        on_conflict=on_conflict,
        reference_decay=reference_decay,
        max_ratio=max_ratio,
        axis_name=axis_name,
    )


def dtnh_adamw(
    learning_rate: optax.ScalarOrSchedule,
    b1: float | jax.Array = 0.9,
    b2: float | jax.Array = 0.999,
    eps: float | jax.Array = 1e-8,
    *,
    weight: optax.ScalarOrSchedule = 1.0,
    weight_decay: float | jax.Array = 0.0,
    pretrained: optax.Params | None = None,
    granularity: _groups.Granularity = "layer",
    on_conflict: str = "drop",
    reference_decay: float | jax.Array | None = None,
    max_ratio: float | jax.Array | None = 3.0,
    axis_name: _axes.AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AdamW with a regularizer decoupled from Adam as the weight decay is, and DTNH.

    The update is :math:`-\eta\,(u + r')`, with :math:`u` what AdamW makes of the
    empirical gradient and :math:`r'` what :func:`dtnh` leaves of the regularizer,
    judged against the raw empirical gradient. So :math:`\langle g, u + r'\rangle \ge
    \langle g, u\rangle`, which ``chain(dtnh(), adamw(lr))`` does not give. The
    defaults are not the paper's rule, which is ``granularity="global"``,
    ``on_conflict="project"`` and ``max_ratio=None``, but what fell least below
    fine-tuning without a regularizer in the study `never-hurt`.

    Args:
      learning_rate: step size η, a number or a schedule.
      b1: decay of Adam's first moment.
      b2: decay of Adam's second moment.
      eps: added to the root of the second moment.
      weight: the regularizer's weight λ, a number or a schedule. Decoupled: it is not
        divided by the second moment, and a step goes back by :math:`\eta\lambda` of the
        way to ``pretrained``, where there is no conflict. With η = 0.001 and λ = 0.1
        that is 1 % in a hundred steps; the study `never-hurt` tried λ up to 100.
      weight_decay: decoupled weight decay towards zero, of all parameters.
      pretrained: if given, the regularizer is L2-SP towards these parameters, as in
        :func:`l2_sp` with ``alpha=1``, and ``update`` takes plain gradients and
        ``params``. If not, ``update`` takes pairs or ``regularizer_grads``, as that of
        :func:`dtnh`.
      granularity: see :func:`dtnh`.
      on_conflict: see :func:`dtnh`.
      reference_decay: see :func:`dtnh`.
      max_ratio: see :func:`dtnh`.
      axis_name: see :func:`dtnh`.

    Returns:
      An optimizer: its updates are to be added to the parameters.

    Raises:
      ValueError: if an argument is out of range; see :func:`dtnh` and :func:`l2_sp`.
      TypeError: from ``update``, for two gradients where ``pretrained`` was given, and
        for one where it was not.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from dtnh_jax import GradientPair, dtnh_adamw
      >>> params = {"w": jnp.array([1.0, 2.0])}
      >>> tx = dtnh_adamw(0.1, weight=0.5)
      >>> g, r = {"w": jnp.array([4.0, 0.0])}, {"w": jnp.array([1.0, 1.0])}
      >>> updates, state = tx.update(GradientPair(g, r), tx.init(params), params)
      >>> [f"{x:.2f}" for x in updates["w"]]
      ['-0.15', '-0.05']

    References:
      Loshchilov and Hutter, `Decoupled Weight Decay Regularization
      <https://arxiv.org/abs/1711.05101>`_, 2019
    """
    return _chain(
        learning_rate,
        pretrained,
        weight,
        inner=optax.chain(
            optax.scale_by_adam(b1, b2, eps), optax.add_decayed_weights(weight_decay)
        ),
        granularity=granularity,
        on_conflict=on_conflict,
        reference_decay=reference_decay,
        max_ratio=max_ratio,
        axis_name=axis_name,
    )


def _chain(
    learning_rate: Any, pretrained: Any, weight: Any, **options: Any
) -> optax.GradientTransformationExtraArgs:
    _checks.rate("learning_rate", learning_rate)
    pair_maker = [] if pretrained is None else [l2_sp(pretrained, alpha=1.0)]
    rate = optax.scale_by_learning_rate(learning_rate)
    return optax.with_extra_args_support(
        optax.chain(*pair_maker, dtnh(weight, **options), rate)
    )
