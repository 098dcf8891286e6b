"""The checker rejects wrong rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import steady

START = {
    name: {"kernel": jax.random.normal(jax.random.key(i), (3, 4))}
    for i, name in enumerate("ab")
}


def loss(params, t):
    offsets = 3 * jnp.cos(jnp.arange(12.0) + 2 * t).reshape(3, 4)
    a, b = (params[name]["kernel"] for name in "ab")
    return jnp.sum((a - offsets) ** 2) + jnp.sum((a * b - 1) ** 2)


def project(m, r):
    return r - min(0, m @ r) / (m @ m) * m


WRONG = {
    "unprojected": {"kept": lambda m, r, most: r * min(1, most / steady.norm(r))},
    "uncapped": {"kept": lambda m, r, most: project(m, r)},
    "unmixed": {"unit": lambda v: v},
    "forgetful": {"DECAY": 0.5},
    "never": {"kept": lambda m, r, most: 0 * r},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_rule_is_rejected(wrong, monkeypatch):
    with monkeypatch.context() as patch:
        for name, value in WRONG[wrong].items():
            patch.setattr(steady, name, value)
        actual = steady.train(START, jax.grad(loss))
    with pytest.raises(AssertionError):
        steady.check(actual, START, jax.grad(loss))


def test_one_layer_for_all_is_rejected():
    whole = [np.arange(24)]
    actual = steady.train(START, jax.grad(loss), layers=whole)
    with pytest.raises(AssertionError):
        steady.check(actual, START, jax.grad(loss))


def test_the_rule_itself_is_accepted():
    steady.check(steady.train(START, jax.grad(loss)), START, jax.grad(loss))
