"""The checker rejects wrong rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import steady

START = {
    name: {
        "kernel": size * jax.random.normal(jax.random.key(i), (3, 4)),
        "bias": jax.random.normal(jax.random.key(i + 2), (4,)),
    }
    for i, (name, size) in enumerate({"a": 1, "b": 0.1}.items())
}
SIZE = 2 * (12 + 4)
NEW = range(SIZE // 2, SIZE)  # "b", where the regularizer is too short for the cap


def loss(params, t):
    offsets = 3 * jnp.cos(jnp.arange(12.0) + 2 * t).reshape(3, 4)
    a, b = (params[name]["kernel"] + params[name]["bias"] for name in "ab")
    return jnp.sum((a - offsets) ** 2) + jnp.sum((a * b - 1) ** 2)


class Hasty(steady.Steady):
    """Does not leave the regularizer out of the first step."""

    def __call__(self, w, g):
        self.average = g if self.average is None else self.average
        return super().__call__(w, g)


class Rash(steady.Steady):
    """Judges each step by its own gradient."""

    def __call__(self, w, g):
        self.average = self.average if self.average is None else g
        return super().__call__(w, g)


def project(m, r):
    return r - min(0, m @ r) / (m @ m) * m


WRONG = {
    "unprojected": {"kept": lambda m, r, longest: steady.shortened(r, longest)},
    "uncapped": {"kept": lambda m, r, longest: project(m, r)},
    "capped at the average": {
        "kept": lambda m, r, longest: steady.shortened(project(m, r), steady.norm(m))
    },
    "never": {"kept": lambda m, r, longest: 0 * r},
    "of ratio 1": {"RATIO": 1.0},
    "lengthened": {"turned": lambda u, r: u + r},
    "of one length": {
        "turned": lambda u, r: (u + r) * steady.norm(u) / steady.norm(u + r)
    },
    "mixed as it is": {"scaled": lambda v: v},
    "mixed at unit norm": {"scaled": lambda v: v / steady.norm(v) if v.any() else v},
    "mixed by what is not zero": {
        "scaled": lambda v: (
            v / steady.norm(v) * np.sqrt(np.count_nonzero(v)) if v.any() else v
        )
    },
    "decaying biases": {"decayed_of": lambda params: np.ones(SIZE)},
    "decaying nothing": {"decayed_of": lambda params: np.zeros(SIZE)},
    "of weight 10": {"WEIGHT": 10.0},
    "forgetful": {"DECAY": 0.5},
    "hasty": {"Steady": Hasty},
    "rash": {"Steady": Rash},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_rule_is_rejected(wrong, monkeypatch):
    with monkeypatch.context() as patch:
        for name, value in WRONG[wrong].items():
            patch.setattr(steady, name, value)
        actual = steady.train(
            START, jax.grad(loss), rule=steady.Steady, weight=steady.WEIGHT, new=NEW
        )
    with pytest.raises(AssertionError):
        steady.check(actual, START, jax.grad(loss), new=NEW)


def test_new_parameters_held_at_their_start_are_rejected():
    actual = steady.train(START, jax.grad(loss))
    with pytest.raises(AssertionError):
        steady.check(actual, START, jax.grad(loss), new=NEW)


def test_one_layer_for_all_is_rejected():
    whole = [np.arange(SIZE)]
    actual = steady.train(START, jax.grad(loss), layers=whole, new=NEW)
    with pytest.raises(AssertionError):
        steady.check(actual, START, jax.grad(loss), new=NEW)


def test_the_rule_itself_is_accepted():
    actual = steady.train(START, jax.grad(loss), new=NEW)
    steady.check(actual, START, jax.grad(loss), new=NEW)
