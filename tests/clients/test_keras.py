"""Keras 3 on JAX: ``fit`` with the wrapper of the page."""

import jax
import numpy as np
import optax
import page
import pytest
import steady

import dtnh_jax


@pytest.fixture(scope="module")
def scope():
    return page.run("Keras")


def variables(model):
    return [np.asarray(v.value) for v in model.trainable_variables]


def losses(scope, params, t):
    """With the network written out."""
    rows = slice(8 * t, 8 * t + 8)
    x, y = scope["x"][rows], scope["y"][rows]
    kernel, bias, head, head_bias = params
    logits = jax.nn.relu(x @ kernel + bias) @ head + head_bias
    xent = optax.softmax_cross_entropy_with_integer_labels(logits, y)
    teacher = np.asarray(scope["teacher"])[rows]
    return xent.mean(), dtnh_jax.logit_distillation(logits, teacher)


def layers(scope):
    found = steady.layers_of(
        variables(scope["model"]), lambda path: scope["labels"][path[0].idx]
    )
    assert len(found) == 2
    return list(found.values())


def test_parameters(scope):
    start, actual = variables(scope["network"]()), variables(scope["model"])
    grads = jax.grad(lambda params, t: losses(scope, params, t)[0])
    steady.check(actual, start, grads, layers=layers(scope))


def test_distillation(scope):
    grads = jax.jacrev(lambda params, t: losses(scope, params, t))
    start, actual = variables(scope["network"]()), variables(scope["student"])
    steady.check(actual, start, grads, layers=layers(scope))
