"""Tunix's ``PeftTrainer``; the networks' gradients are taken outside it."""

import chex
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
import page
import pytest
import steady


@pytest.fixture(scope="module")
def scope():
    return page.run("Tunix")


@pytest.fixture
def nnx():
    from flax import nnx

    return nnx


def dicts(nnx, model, kind):
    return nnx.to_pure_dict(nnx.state(model, kind))


def on_dicts(scope, nnx, model, kind=None, name="loss_fn", batches="batches"):
    """A function of the section, on plain dicts in place of the model's variables."""
    graph, moving, fixed = nnx.split(model, kind or nnx.Param, ...)
    fun, batches = scope[name], scope[batches]

    def values(params, t):
        state = jax.tree.map(lambda x: x, moving)
        nnx.replace_by_pure_dict(state, params)
        return fun(nnx.merge(graph, state, fixed, copy=True), **batches[t])

    return values


def test_full(scope, nnx):
    start = scope["LanguageModel"](nnx.Rngs(0))
    loss = on_dicts(scope, nnx, start)
    steady.check(
        dicts(nnx, scope["model"], nnx.Param),
        dicts(nnx, start, nnx.Param),
        jax.grad(loss),
    )


def fresh_lora(scope, nnx):
    return scope["qwix"].apply_lora_to_model(
        scope["LanguageModel"](nnx.Rngs(0)),
        scope["qwix"].LoraProvider(module_path="hidden|out", rank=2, alpha=2.0),
        scope["batches"][0]["tokens"],
        rngs=nnx.Rngs(1),
    )


def test_lora(scope, nnx):
    start = fresh_lora(scope, nnx)
    loss = on_dicts(scope, nnx, start, nnx.LoRAParam)
    steady.check(
        dicts(nnx, scope["lora"], nnx.LoRAParam),
        dicts(nnx, start, nnx.LoRAParam),
        jax.grad(loss),
    )
    frozen = nnx.All(nnx.Param, nnx.Not(nnx.LoRAParam))
    chex.assert_trees_all_equal(
        dicts(nnx, scope["lora"], frozen), dicts(nnx, start, frozen)
    )


def test_accumulation(scope, nnx):
    start, model = (scope["LanguageModel"](nnx.Rngs(0)) for _ in range(2))
    config = scope["TrainingConfig"](
        eval_every_n_steps=100, gradient_accumulation_steps=2
    )
    trainer = scope["PeftTrainer"](model, scope["tx"], config)
    trainer.with_loss_fn(scope["loss_fn"]).train(scope["batches"][:4])
    loss = on_dicts(scope, nnx, start)

    def mean_loss(params, t):
        return (loss(params, 2 * t) + loss(params, 2 * t + 1)) / 2

    steady.check(
        dicts(nnx, model, nnx.Param),
        dicts(nnx, start, nnx.Param),
        jax.grad(mean_loss),
        rates=[steady.RATE] * 2,
    )


def test_distillation(scope, nnx):
    start = scope["LanguageModel"](nnx.Rngs(0))
    both = on_dicts(scope, nnx, start, name="losses", batches="taught")
    steady.check(
        dicts(nnx, scope["student"], nnx.Param),
        dicts(nnx, start, nnx.Param),
        jax.jacrev(both),
    )


def test_a_resumed_run_keeps_the_pretrained_parameters(scope, nnx, tmp_path):
    """The anchor is in the optimizer's state, which Tunix saves with the model."""
    make, kind = scope["LanguageModel"], nnx.Param

    def run(model, steps):
        config = scope["TrainingConfig"](
            eval_every_n_steps=100,
            max_steps=steps,
            checkpoint_root_directory=str(tmp_path),
            checkpointing_options=ocp.CheckpointManagerOptions(),
        )
        trainer = scope["PeftTrainer"](model, scope["tx"], config)
        trainer.with_loss_fn(scope["loss_fn"]).train(scope["batches"])

    run(make(nnx.Rngs(0)), 3)
    model = make(nnx.Rngs(9))  # other random numbers, as in a new process
    run(model, 5)
    chex.assert_trees_all_close(
        dicts(nnx, model, kind), dicts(nnx, scope["model"], kind), rtol=1e-6
    )
    assert jnp.isfinite(model.out.kernel[...]).all()
