"""Kauldron's ``Trainer``: the network's gradients are taken outside it."""

import chex
import jax
import optax
import page
import pytest
import steady

import dtnh_jax


@pytest.fixture(scope="module")
def scope():
    return page.run("Kauldron")


def losses(scope, params, t):
    batch = {name: x[8 * t : 8 * t + 8] for name, x in scope["taught"]().items()}
    logits = scope["Network"]().apply({"params": params}, batch["images"])
    xent = optax.softmax_cross_entropy_with_integer_labels(
        logits, batch["labels"][:, 0]
    )
    return xent.mean(), dtnh_jax.logit_distillation(logits, batch["teacher"])


def test_parameters(scope):
    grads = jax.grad(lambda params, t: losses(scope, params, t)[0])
    steady.check(scope["state"].params, scope["pretrained"], grads)


def test_distillation(scope):
    grads = jax.jacrev(lambda params, t: losses(scope, params, t))
    steady.check(scope["distilled"].params, scope["pretrained"], grads)


def test_an_optimizer_from_a_config(scope):
    with scope["kd"].konfig.imports():
        import optax

        import dtnh_jax as dj

    tx = optax.chain(dj.mix_regularizers(dj.l2_sp(), dj.l2()), dj.dtnh_adamw(1e-2))
    config = scope["kd"].konfig.ConfigDict({"optimizer": tx})
    built = scope["kd"].konfig.resolve(config).optimizer
    params = scope["pretrained"]
    chex.assert_trees_all_equal(built.init(params), scope["tx"].init(params))
