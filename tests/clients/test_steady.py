"""The checker rejects wrong rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import steady

START = {
    name: {
        "kernel": size * jax.random.normal(jax.random.key(i), (3, 4)),
        "bias": size * jax.random.normal(jax.random.key(i + 3), (4,)),
    }
    # In "c" the regularizer opposes all steps. In "b" and "d", which are new, it is too
    # short for the caps, and along all steps but the last.
    for i, (name, size) in enumerate({"a": 1, "b": 0.1, "c": 1e-3, "d": 3}.items())
}
SIZE = 4 * (12 + 4)
NEW = [*range(SIZE // 4, SIZE // 2), *range(3 * SIZE // 4, SIZE)]


def loss(params, t):
    turn = jnp.where(t < 3, 1.0, -9.0)  # against the average of the steps before
    offsets = turn * jnp.cos(jnp.arange(12.0) + t).reshape(3, 4)
    a, b, c, d = (params[name]["kernel"] + params[name]["bias"] for name in "abcd")
    near = jnp.sum((a - offsets) ** 2) + jnp.sum((c - jnp.abs(offsets)) ** 2)
    return near + jnp.sum((a * b - 1) ** 2) + turn * jnp.sum(d**2)


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


class ByGradients(steady.Steady):
    """Averages the gradients, not what Adam makes of them."""

    def __call__(self, w, g):
        before = self.average
        direction = super().__call__(w, g)
        self.average = steady.DECAY * (0 * g if before is None else before)
        self.average += (1 - steady.DECAY) * g
        return direction


def project(m, r):
    return r - min(0, m @ r) / (m @ m) * m


WRONG = {
    "unprojected": {"kept": lambda m, r, length: steady.shortened(r, length / 2)},
    "uncapped": {"kept": lambda m, r, length: project(m, r)},
    "capped after the projection alone": {
        "kept": lambda m, r, length: steady.shortened(project(m, r), length / 2)
    },
    "capped at the average": {
        "kept": lambda m, r, length: steady.shortened(project(m, r), steady.norm(m))
    },
    "never": {"kept": lambda m, r, length: 0 * r},
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
    "judged by gradients": {"Steady": ByGradients},
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
