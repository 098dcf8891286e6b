"""`amortized_value_and_grad`: DTNH's direction as the gradient of one weighted loss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dtnh_jax import (
    GradientPair,
    amortized_value_and_grad,
    dtnh,
    pair_value_and_grad,
)

W = {"a": jnp.array([1.0, 0.5, -0.5]), "b": jnp.array([[0.3], [-0.7]])}
X = jnp.array([2.0, 1.0, -1.0])


def losses(params, x, shift=0.0):
    """In conflict at `W` and on the way from there to ``X``."""
    loss = jnp.sum((params["a"] - x) ** 2) + jnp.sum((params["b"] - 1 - shift) ** 2)
    penalty = jnp.sum(params["a"] ** 2) ** 2 + jnp.sum(params["b"] ** 2)
    return loss, penalty


def inner_product(left, right):
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return sum(np.vdot(a, b) for a, b in pairs)


def pair_at(params):
    """Both gradients of ``losses`` at ``X``, by hand in float64."""
    a, b, x = (np.asarray(v, np.float64) for v in (params["a"], params["b"], X))
    return GradientPair(
        {"a": 2 * (a - x), "b": 2 * (b - 1)},
        {"a": 4 * np.sum(a**2) * a, "b": 2 * b},
    )


def weighted_sum(state, pair):
    a, b = float(state.loss_weight), float(state.penalty_weight)
    return jax.tree.map(lambda g, r: a * g + b * r, *pair)


def assert_close(tree, expected, rtol):
    for x, y in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol)


def run(amortized, steps, rate=0.01, params=W):
    """States and directions of a few steps of gradient descent."""
    value_and_grad = jax.jit(amortized.value_and_grad)
    state, found = amortized.init(), []
    for _ in range(steps):
        ((_, _), grads), state = value_and_grad(state, params, X)
        found.append((params, grads, state))
        params = jax.tree.map(lambda w, d: w - d.dtype.type(rate) * d, params, grads)
    return found


@pytest.mark.parametrize(
    "options",
    [{}, {"max_ratio": 0.1}, {"on_conflict": "drop"}, {"on_conflict": "ignore"}],
    ids=str,
)
def test_refreshed_always_it_is_dtnh_and_the_weights_make_its_direction(options):
    """At a refresh, a and b times the two gradients are the direction itself."""
    amortized = amortized_value_and_grad(losses, refresh_every=1, weight=0.3, **options)
    tx = dtnh(0.3, **options)
    update = jax.jit(lambda pair: tx.update(pair, tx.init(pair.empirical))[0])
    for params, grads, state in run(amortized, 3):
        pair = pair_at(params)
        single = jax.tree.map(np.float32, pair)
        assert_close(grads, update(single), rtol=1e-5)
        assert_close(grads, weighted_sum(state, pair), rtol=2e-5)


def test_the_gradients_by_hand_are_those_of_the_losses():
    _, pair = jax.jit(pair_value_and_grad(losses))(W, X)
    assert_close(pair_at(W), pair, rtol=1e-6)


def test_between_refreshes_the_weights_stay_and_the_gradients_are_new():
    found = run(amortized_value_and_grad(losses, refresh_every=3, weight=0.3), 7)
    weights = [float(state.loss_weight) for *_, state in found]
    assert weights[0] == weights[1] == weights[2] != weights[3]
    assert weights[3] == weights[4] == weights[5] != weights[6]
    assert [int(state.count) for *_, state in found] == [1, 2, 3, 4, 5, 6, 7]
    for i in (1, 2, 4):
        params, grads, state = found[i]
        assert_close(grads, weighted_sum(state, pair_at(params)), rtol=2e-5)


def test_g2_holds_at_every_refresh():
    found = run(amortized_value_and_grad(losses, refresh_every=4, weight=0.5), 9)
    for params, grads, _ in found[::4]:
        g = pair_at(params).empirical
        assert inner_product(g, grads) >= inner_product(g, g) * (1 - 1e-6)


def test_one_backward_pass_between_refreshes():
    """The second branch of the conditional holds one product with the weights' shape.

    Each pass through ``tanh`` multiplies by the transposed matrix once for each
    gradient, so the products of the compiled branches count the passes.
    """

    def deep(w, x):
        for _ in range(3):
            x = jnp.tanh(x @ w)
        return jnp.sum(x), jnp.sum(x**2)

    amortized = amortized_value_and_grad(deep, refresh_every=2)
    x, w = jnp.ones((4, 8)), jnp.eye(8)
    program = jax.make_jaxpr(amortized.value_and_grad)(amortized.init(), w, x)
    (conditional,) = [e for e in program.eqns if e.primitive.name == "cond"]
    # `lax.cond` keeps the branch for False first.
    products = [_products(branch.jaxpr) for branch in conditional.params["branches"]]
    # Forward 3; backward 3 for w and 2 for x.
    assert products == [3 + 5, 3 + 2 * 5]


def _products(jaxpr):
    count = 0
    for equation in jaxpr.eqns:
        count += equation.primitive.name == "dot_general"
        for inner in jax.tree.leaves(list(equation.params.values())):
            inner = getattr(inner, "jaxpr", inner)
            count += _products(inner) if hasattr(inner, "eqns") else 0
    return count


def test_eager_jit_and_scan_agree_without_recompilation():
    amortized = amortized_value_and_grad(losses, refresh_every=2, weight=0.3)
    traces = 0

    def step(carry, x):
        nonlocal traces
        traces += 1
        params, state = carry
        ((loss, _), grads), state = amortized.value_and_grad(state, params, x)
        params = jax.tree.map(lambda w, d: w - 0.01 * d, params, grads)
        return (params, state), loss

    xs = jnp.stack([X, X + 1, X - 1, X, X])
    eager = jitted = W, amortized.init()
    compiled = jax.jit(step)
    for x in xs[:2]:  # once measured, once reused
        eager, _ = step(eager, x)
        jitted, _ = compiled(jitted, x)
    assert_close(eager, jitted, rtol=1e-6)
    traces = 0
    for x in xs[2:]:
        jitted, _ = compiled(jitted, x)
    assert traces == 0
    scanned, _ = jax.lax.scan(step, (W, amortized.init()), xs)
    assert_close(jitted, scanned, rtol=1e-6)


def test_measure_and_reuse_are_the_two_ways():
    amortized = amortized_value_and_grad(losses, refresh_every=3, weight=0.3)
    one, two = amortized.init(), amortized.init()
    measure, reuse, either = map(
        jax.jit, (amortized.measure, amortized.reuse, amortized.value_and_grad)
    )
    for i in range(5):
        by_hand = reuse if i % 3 else measure
        (_, left), one = by_hand(one, W, X)
        (_, right), two = either(two, W, X)
        assert_close((left, one), (right, two), rtol=1e-6)


def test_aux_keywords_and_argnums():
    def fun(x, params, *, shift):
        return losses(params, x, shift), {"seen": x + shift}

    amortized = amortized_value_and_grad(fun, 1, has_aux=True, refresh_every=2)
    state, value_and_grad = amortized.init(), jax.jit(amortized.value_and_grad)
    for _ in range(2):  # once measured, once reused
        ((values, aux), grads), state = value_and_grad(state, X, W, shift=1.0)
        np.testing.assert_allclose(values, losses(W, X, 1.0), rtol=1e-6)
        np.testing.assert_allclose(aux["seen"], X + 1)
        assert jax.tree.structure(grads) == jax.tree.structure(W)


def test_moving_average_of_the_weights():
    def one(params, x):  # a = 1 + 2x at weight 1: g = 1, r = -2x
        return params[0], -2 * x * params[0]

    amortized = amortized_value_and_grad(one, refresh_every=1, decay=0.75)
    state, w = amortized.init(), jnp.zeros(1)
    value_and_grad = jax.jit(amortized.value_and_grad)
    for x, expected in ((1.0, 3.0), (2.0, 3.5), (1.0, 3.375)):
        (_, grads), state = value_and_grad(state, w, x)
        np.testing.assert_allclose(state.loss_weight, expected, rtol=1e-6)
        np.testing.assert_allclose(grads, [1.0], rtol=1e-6)  # this step's own, exact


def test_a_nan_shows_in_its_step_and_does_not_stay():
    amortized = amortized_value_and_grad(losses, refresh_every=2, weight=0.3)
    state, value_and_grad = amortized.init(), jax.jit(amortized.value_and_grad)
    (_, _), state = value_and_grad(state, W, X)
    (_, _), state = value_and_grad(state, W, X)
    (_, grads), after = value_and_grad(state, W, X * jnp.nan)
    assert np.isnan(grads["a"]).all()
    assert float(after.loss_weight) == float(state.loss_weight)
    assert float(after.penalty_weight) == float(state.penalty_weight)


def test_schedule_is_read_at_refreshes():
    amortized = amortized_value_and_grad(
        losses,
        refresh_every=2,
        weight=lambda count: 1 / (1 + count.astype(jnp.float32)),
    )
    weights = [float(s.penalty_weight) for *_, s in run(amortized, 4)]
    np.testing.assert_allclose(weights, [1, 1, 1 / 3, 1 / 3], rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_keeps_its_dtype(dtype):
    params = jax.tree.map(lambda w: w.astype(dtype), W)
    for _, grads, state in run(
        amortized_value_and_grad(losses_in(dtype), refresh_every=2), 2, params=params
    ):
        assert {d.dtype for d in jax.tree.leaves(grads)} == {jnp.dtype(dtype)}
        assert state.loss_weight.dtype == jnp.float32


def losses_in(dtype):
    return lambda params, x: losses(params, x.astype(dtype))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"refresh_every": 0}, ValueError, "at least 1, got 0"),
        ({"refresh_every": 2.0}, TypeError, "must be an integer, got 2.0"),
        ({"refresh_every": True}, TypeError, "must be an integer"),
        ({"refresh_every": 2, "weight": -1.0}, ValueError, "`weight` must not be"),
        ({"refresh_every": 2, "on_conflict": "x"}, ValueError, '"project", "drop"'),
        ({"refresh_every": 2, "max_ratio": 0.0}, ValueError, "`max_ratio` must be"),
        ({"refresh_every": 2, "decay": 1.0}, ValueError, "`decay` must be above 0"),
    ],
    ids=str,
)
def test_bad_arguments(options, error, words):
    with pytest.raises(error, match=words):
        amortized_value_and_grad(losses, **options)


def test_the_pair_form_is_not_needed():
    """The result goes into any optimizer as a plain gradient."""
    amortized = amortized_value_and_grad(losses, refresh_every=4, weight=0.1)
    _, grads = jax.eval_shape(amortized.value_and_grad, amortized.init(), W, X)[0]
    assert not isinstance(grads, GradientPair)
    tx = optax.sgd(0.1)
    updates, _ = jax.eval_shape(tx.update, grads, tx.init(W), W)
    assert jax.tree.structure(updates) == jax.tree.structure(W)
