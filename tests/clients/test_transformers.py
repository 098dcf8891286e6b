"""Hugging Face's Flax models, in Flax's ``TrainState``."""

import jax
import page
import pytest
import steady


@pytest.fixture(scope="module")
def scope():
    return page.run("Hugging Face")


@pytest.fixture
def options(scope):
    layers = steady.layers_of(scope["model"].params)
    head = [k for (path, _), k in layers.items() if path[0].key == "classifier"]
    assert len(head) == 1
    return {"layers": list(layers.values()), "new": head[0]}


def test_parameters(scope, options):
    grads = jax.jit(jax.grad(lambda w, t: scope["loss_fn"](w)))
    steady.check(scope["state"].params, scope["model"].params, grads, **options)


def test_distillation(scope, options):
    model, images = scope["model"], scope["images"]

    def penalty(params):
        hidden = model(images, params=params, output_hidden_states=True).hidden_states
        return scope["feature_distillation"](hidden[-1], scope["wanted"])

    @jax.jit
    def grads(params, t):
        return jax.grad(scope["loss_fn"])(params), jax.grad(penalty)(params)

    steady.check(scope["distilled"].params, model.params, grads, **options)
