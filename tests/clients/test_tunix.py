"""Tunix's ``PeftTrainer``; the networks' gradients are taken outside it."""

import chex
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
import page
import pytest
import steady
from flax import nnx


@pytest.fixture(scope="module")
def scope():
    return page.run("Tunix")


def dicts(model, kind=nnx.Param):
    return nnx.to_pure_dict(nnx.state(model, kind))


def check(actual, start, fun, batches, *, kind=nnx.Param, gradient=jax.grad, **options):
    """``fun`` is a function of the section; the step has the mean over its batches."""
    graph, moving, fixed = nnx.split(start, kind, ...)

    def values(params, t):
        state = jax.tree.map(lambda x: x, moving)
        nnx.replace_by_pure_dict(state, params)
        model = nnx.merge(graph, state, fixed, copy=True)
        found = [fun(model, **batch) for batch in batches[t]]
        return jax.tree.map(lambda *x: sum(x) / len(x), *found)

    steady.check(dicts(actual, kind), dicts(start, kind), gradient(values), **options)


def test_full(scope):
    start, batches = scope["LanguageModel"](nnx.Rngs(0)), scope["batches"]
    check(scope["model"], start, scope["loss_fn"], [[x] for x in batches])


def test_lora(scope):
    batches = scope["batches"]
    start = scope["qwix"].apply_lora_to_model(
        scope["LanguageModel"](nnx.Rngs(0)),
        scope["qwix"].LoraProvider(module_path="hidden|out", rank=2, alpha=2.0),
        batches[0]["tokens"],
        rngs=nnx.Rngs(1),
    )
    found, each = scope["lora"], [[x] for x in batches]
    check(found, start, scope["loss_fn"], each, kind=nnx.LoRAParam)
    frozen = nnx.All(nnx.Param, nnx.Not(nnx.LoRAParam))
    chex.assert_trees_all_equal(dicts(found, frozen), dicts(start, frozen))


def test_accumulation(scope):
    start, model = (scope["LanguageModel"](nnx.Rngs(0)) for _ in range(2))
    config = scope["TrainingConfig"](
        eval_every_n_steps=100, gradient_accumulation_steps=2
    )
    trainer = scope["PeftTrainer"](model, scope["tx"], config)
    batches = scope["batches"]
    trainer.with_loss_fn(scope["loss_fn"]).train(batches[:4])
    pairs = batches[:2], batches[2:4]
    check(model, start, scope["loss_fn"], pairs, rates=[steady.RATE] * 2)


def test_distillation(scope):
    start, batches = scope["LanguageModel"](nnx.Rngs(0)), scope["taught"]
    each = [[x] for x in batches]
    check(scope["student"], start, scope["losses"], each, gradient=jax.jacrev)


def test_a_resumed_run_keeps_the_pretrained_parameters(scope, tmp_path):
    """The anchor is in the optimizer's state, which Tunix saves with the model."""

    def run(model, steps):
        config = scope["TrainingConfig"](
            eval_every_n_steps=100,
            max_steps=steps,
            checkpoint_root_directory=str(tmp_path),
            checkpointing_options=ocp.CheckpointManagerOptions(),
        )
        trainer = scope["PeftTrainer"](model, scope["tx"], config)
        trainer.with_loss_fn(scope["loss_fn"]).train(scope["batches"])

    run(scope["LanguageModel"](nnx.Rngs(0)), 3)
    model = scope["LanguageModel"](nnx.Rngs(9))  # other numbers, as in a new process
    run(model, 5)
    chex.assert_trees_all_close(dicts(model), dicts(scope["model"]), rtol=1e-6)
    assert jnp.isfinite(model.out.kernel[...]).all()
