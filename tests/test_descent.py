"""G7: with max_ratio the loss never rises, whatever the weight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from dtnh_jax import GradientPair, dtnh

STEPS = 1000


def quadratic(seed):
    """``½ x·Ax`` with a random spectrum; β is the largest eigenvalue of A."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((8, 8)))
    spectrum = 10.0 ** rng.uniform(-3, 2, 8)
    return (q * spectrum @ q.T,), spectrum.max(), 8


def logistic_regression(seed):
    """Two digits, classified; β = ‖X‖²/(4n), the bound of the logistic loss."""
    images, labels = load_digits(n_class=2, return_X_y=True)
    rows = np.random.default_rng(seed).permutation(len(labels))[:100]
    x, sign = images[rows] / 16, 2.0 * labels[rows] - 1
    return (x, sign), np.linalg.norm(x, 2) ** 2 / (4 * len(rows)), 64


LOSSES = {
    quadratic: lambda x, a: 0.5 * jnp.dot(x, a @ x),
    logistic_regression: lambda w, x, sign: jnp.mean(jax.nn.softplus(-sign * (x @ w))),
}


@functools.partial(jax.jit, static_argnames="problem")
def descent(problem, data, start, anchor, eta, weight, max_ratio):
    """One program for every seed, weight and cap."""
    tx = dtnh(weight, max_ratio=max_ratio)

    def step(carry, _):
        x, state = carry
        value, g = jax.value_and_grad(LOSSES[problem])(x, *data)
        d, state = tx.update(GradientPair(g, x - 10 * anchor), state)
        return (x - eta * d, state), value

    return jax.lax.scan(step, (start, tx.init(start)), None, STEPS)[1]


def losses(problem, seed, weight, share, max_ratio):
    """Losses along full-batch descent, at a step size of ``share`` times the bound."""
    data, beta, size = problem(seed)
    eta = share * 2 / (beta * np.sqrt(1 + (max_ratio or 1.0) ** 2))
    start, anchor = np.random.default_rng(seed + 1).standard_normal((2, size))
    return descent(problem, data, start, anchor, eta, weight, max_ratio)


def rises(values):
    """Number of steps in which the loss rose, beyond rounding in float64."""
    values = np.asarray(values)
    return int(np.sum(np.diff(values) > 1e-12 * values[:-1] + 1e-14))


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("problem", [quadratic, logistic_regression])
@pytest.mark.parametrize("kappa", [0.1, 1.0])
@pytest.mark.parametrize("weight", [1e-2, 1.0, 1e6])
def test_the_loss_never_rises(problem, kappa, weight):
    for seed, share in enumerate([0.1, 1.0]):
        values = losses(problem, seed, weight, share, kappa)
        assert rises(values) == 0
        assert values[-1] < values[0]


def test_without_the_cap_it_does_rise():
    assert rises(losses(quadratic, 0, 1e3, 1.0, None)) > 0
