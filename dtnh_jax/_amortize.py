"""DTNH at nearly the price of one gradient: weights of the two losses, kept a while."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dtnh_jax import _axes, _checks, _groups, _precision, _projection
from dtnh_jax._pair import GradientPair
from dtnh_jax._value_and_grad import pair_value_and_grad, unpack


class AmortizedState(NamedTuple):
    """State of :func:`amortized_value_and_grad`.

    Attributes:
      count: number of steps so far, a scalar int32.
      loss_weight: what the loss is multiplied by until the next refresh, a scalar
        float32, 1 or more.
      penalty_weight: likewise the penalty, a scalar float32.
      cosine: of the angle between the two gradients at the last refresh, a scalar
        float32.
    """

    count: jax.Array
    loss_weight: jax.Array
    penalty_weight: jax.Array
    cosine: jax.Array


class Amortized(NamedTuple):
    """What :func:`amortized_value_and_grad` returns.

    Attributes:
      init: ``init() -> AmortizedState``.
      value_and_grad: ``value_and_grad(state, *args, **kwargs) -> (((loss, penalty),
        gradient), state)``, or ``((((loss, penalty), aux), gradient), state)`` with
        ``has_aux``. The gradient is DTNH's direction, shaped like the argument at
        ``argnums``: plain gradients, for any optimizer. One program for every step,
        with a conditional in it.
      measure: the same, but measures whatever the count says.
      reuse: the same, but never measures. To call these two, each jitted, in turn from
        Python spares the conditional, in which XLA's convolutions are slow on a CPU.
    """

    init: Callable[[], AmortizedState]
    value_and_grad: Callable[..., tuple[Any, AmortizedState]]
    measure: Callable[..., tuple[Any, AmortizedState]]
    reuse: Callable[..., tuple[Any, AmortizedState]]


def amortized_value_and_grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    refresh_every: int,
    weight: optax.ScalarOrSchedule = 1.0,
    on_conflict: str = "project",
    max_ratio: float | jax.Array | None = None,
    decay: float | jax.Array | None = None,
    axis_name: _axes.AxisName = None,
) -> Amortized:
    r"""DTNH with two backward passes in every ``refresh_every``-th step, else with one.

    With one group, DTNH's direction is the gradient of one weighted loss,

    .. math:: d = g + r' = a\,\nabla L(w) + b\,\nabla\Omega(w), \qquad
      a = 1 - \lambda\frac{\min(0, \langle g, r\rangle)}{\|g\|^2}, \quad b = \lambda

    so that, with :math:`a` and :math:`b` known, one backward pass is enough. They are
    measured in the first and then in every ``refresh_every``-th step, in which the
    direction is exactly that of ``dtnh(weight)`` on a pair; between, those last
    measured are used, on each step's own gradients. **Between, the promise is not
    kept**: that :math:`\langle g, d\rangle \ge \|g\|^2` holds only as far as the two
    gradients still stand to each other as they did. And :math:`a` has no upper bound:
    measured in a step with a small :math:`g`, it multiplies the larger gradients of the
    steps after it, and training can break down that does not with DTNH in every step.
    Use it where two backward passes cost too much, not where the promise counts.

    Args:
      fun: as for :func:`pair_value_and_grad`.
      argnums: as for :func:`pair_value_and_grad`.
      has_aux: as for :func:`pair_value_and_grad`.
      refresh_every: steps from one measurement to the next; 1 measures always.
      weight: the regularizer's weight λ, a number or a schedule, as for :func:`dtnh`;
        between measurements it keeps its last value.
      on_conflict: as for :func:`dtnh`.
      max_ratio: as for :func:`dtnh`.
      decay: if given, above 0 and below 1, what is used between measurements is the
        moving average of what they found, with this decay.
      axis_name: as for :func:`dtnh`.

    Returns:
      An :class:`Amortized`: the functions ``init``, ``value_and_grad``, ``measure`` and
      ``reuse``. They go under ``jax.jit`` and ``jax.lax.scan``. Under ``jax.vmap``
      every step of ``value_and_grad`` pays for both ways.

    Raises:
      TypeError: if ``fun`` is no function or ``refresh_every`` no integer; see
        :func:`pair_value_and_grad` for what ``value_and_grad`` raises.
      ValueError: if another argument is out of range.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from dtnh_jax import amortized_value_and_grad
      >>> def losses(w, x):
      ...     return jnp.sum((w - x) ** 2), jnp.sum(w**2)
      >>> amortized = amortized_value_and_grad(losses, refresh_every=4, weight=0.1)
      >>> w, x, state = jnp.array([1.0]), jnp.array([2.0]), amortized.init()
      >>> tx = optax.sgd(0.1)
      >>> opt_state = tx.init(w)
      >>> for _ in range(8):
      ...     ((loss, _), grads), state = amortized.value_and_grad(state, w, x)
      ...     updates, opt_state = tx.update(grads, opt_state)
      ...     w = optax.apply_updates(w, updates)
      >>> print(f"{loss:.2f} {state.loss_weight:.2f} {state.penalty_weight:.2f}")
      0.06 1.35 0.10
    """
    _checks.whole("refresh_every", refresh_every)
    if not callable(weight):
        _checks.not_negative("weight", weight)
    _checks.one_of("on_conflict", on_conflict, _projection.RULES)
    if max_ratio is not None:
        _checks.positive("max_ratio", max_ratio)
    if decay is not None:
        _checks.fraction("decay", decay)
    _axes.check(axis_name)
    pair_fun = pair_value_and_grad(fun, argnums, has_aux)

    def init() -> AmortizedState:
        one = jnp.ones((), jnp.float32)
        return AmortizedState(jnp.zeros((), jnp.int32), one, 0 * one, 0 * one)

    def measure(state, *args, **kwargs):
        output, pair = pair_fun(*args, **kwargs)
        lam = weight(state.count) if callable(weight) else weight
        axes = _axes.find(axis_name, pair.empirical, *map(jax.tree.leaves, pair))
        direction, (a, b, cosine) = _project(pair, axes, lam, on_conflict, max_ratio)
        if decay is not None:
            keep = jnp.where(state.count == 0, 0, jnp.asarray(decay, jnp.float32))
            a = a + keep * (state.loss_weight - a)
            b = b + keep * (state.penalty_weight - b)
        # This step's NaN shows in its gradient, which the optimizer can skip; kept as
        # a weight it would spoil every step up to the next refresh.
        sound = jnp.isfinite(a) & jnp.isfinite(b)
        a = jnp.where(sound, a, state.loss_weight)
        b = jnp.where(sound, b, state.penalty_weight)
        return (output, direction), AmortizedState(_next(state), a, b, cosine)

    def reuse(state, *args, **kwargs):
        def weighted(*args, **kwargs):
            values, aux = unpack(fun(*args, **kwargs), has_aux)
            dtype = _precision.accumulator(list(values))
            a, b = (
                factor.astype(dtype) * value.astype(dtype)
                for factor, value in zip(state[1:3], values, strict=True)
            )
            return a + b, ((values, aux) if has_aux else values)

        gradient = jax.value_and_grad(weighted, argnums, has_aux=True)
        (_, output), direction = gradient(*args, **kwargs)
        return (output, direction), state._replace(count=_next(state))

    def value_and_grad(state, *args, **kwargs):
        return jax.lax.cond(
            state.count % refresh_every == 0,
            lambda: measure(state, *args, **kwargs),
            lambda: reuse(state, *args, **kwargs),
        )

    return Amortized(init, value_and_grad, measure, reuse)


def _next(state: AmortizedState) -> jax.Array:
    return jnp.asarray(optax.safe_increment(state.count))


def _project(
    pair: GradientPair, axes: _axes.Axes, weight: Any, on_conflict: str, max_ratio: Any
) -> tuple[Any, tuple[jax.Array, jax.Array, jax.Array]]:
    """DTNH's direction; and as scalars float32 its two weights, and the cosine."""
    groups = _groups.divide(pair.empirical, "global")
    treedef = jax.tree.structure(pair.empirical)
    g, r = (jax.tree.leaves(half) for half in pair)
    geo = _projection.geometry(g, r, groups, axes, summed=True)
    plan = _projection.plan(geo, weight, on_conflict, max_ratio)
    rest = _projection.remainders(plan, geo, groups, g, r)
    direction = treedef.unflatten(map(_projection.add, g, rest, (x.dtype for x in g)))
    # r' = keep * r - push * g / |g|, and push is not above 0.
    norm = geo.reference_norm[0]
    loss_weight = 1 - jnp.where(
        norm == 0, 0, plan.push[0] / jnp.where(norm == 0, 1, norm)
    )
    a, b, cosine = (
        x.astype(jnp.float32) for x in (loss_weight, plan.keep[0], geo.cosine[0])
    )
    return direction, (a, b, cosine)
