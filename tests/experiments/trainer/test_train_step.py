"""What a step does and shows: the penalty is the one whose gradient λ multiplies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import delta
from experiments.methods import method
from experiments.networks import anchor
from experiments.recipe import Recipe
from experiments.step import Reference, gradients
from experiments.trainer import step
from experiments.trainer.task import Task


@pytest.fixture
def task(small, stripes):
    """Gives the task of that method, its state and what else a step takes."""

    def make(name, falls_at=1.0):
        recipe = Recipe(10, 12, 0.05, falls_at=falls_at)
        rows = np.arange(12, dtype=np.int32)
        task = Task(small, method(name), 0.5, recipe, stripes, rows, rows, 0)
        start, params = (small.init(jax.random.key(seed)) for seed in range(2))
        one = jax.tree.map(lambda x: x[None], start)
        channels = None
        if task.method.towards == "channels":
            weights = delta.channel_weights(small, one, stripes, rows[None])
            channels = jax.tree.map(lambda x: x[0], weights)
        reference = Reference(anchor(start), channels)
        images, labels = (x[::5] for x in (stripes.images, stripes.labels))
        batch = jnp.asarray(images), jnp.asarray(labels)
        return task, step.initial(task, params, reference), reference, batch

    return make


def _jitted(task):
    """A new function each time, so that it is traced anew."""
    return jax.jit(lambda *args: step.advance(task, *args))


@pytest.mark.parametrize(
    "name",
    [
        "l2-sp",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("l2", "delta")),
    ],
)
def test_the_plain_sum_descends_the_loss_and_lambda_times_the_penalty(task, name):
    task, state, reference, (images, labels) = task(name)

    @jax.jit
    @jax.grad
    def joint_gradient(params):
        loss, penalty, _ = gradients(
            task.architecture, task.method, params, reference, images, labels
        )
        return loss + task.weight * penalty

    expected = joint_gradient(state.params)
    after, found = _jitted(task)(state, reference, images, labels)
    moved = jax.tree.map(lambda x, y: (x - y) / 0.05, state.params, after.params)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4),
        moved, expected,
    )  # fmt: skip
    assert found.penalty > 0.01


def test_the_learning_rate_is_that_of_the_update(task):
    task, state, reference, batch = task("plain", falls_at=0.5)
    advance = _jitted(task)
    rates = [
        advance(state._replace(step=jnp.int32(n)), reference, *batch)[1]
        for n in (0, 4, 5)
    ]
    found = [float(measured.learning_rate) for measured in rates]
    np.testing.assert_allclose(found, [0.05, 0.05, 0.005], rtol=1e-6)
    assert rates[0].penalty is None


def test_what_is_not_finite_is_seen_wherever_it_is(task):
    _, state, _, _ = task("dtnh-layer")
    assert step.all_finite(state)
    for value in (np.nan, np.inf, -np.inf):
        broken = dict(state.params)
        layer = dict(broken["dense"])
        layer["bias"] = layer["bias"].at[-1].set(value)
        broken["dense"] = layer
        assert not step.all_finite(state._replace(params=broken))
        assert not step.all_finite(state._replace(opt_state=(state.opt_state, broken)))
