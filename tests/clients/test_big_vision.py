"""big_vision's pattern: the optimizer and the shapes of its state before parameters."""

import operator
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import optax
import page
import pytest
import steady

import dtnh_jax

FALLING = optax.linear_schedule(1.0, 0.0, 10)
SHAPES = {"embed": (4, 8), "body": (8, 8), "head": (8, 3)}


@pytest.fixture(scope="module")
def scope():
    optax.big_vision = SimpleNamespace()
    yield page.run("big_vision")
    del optax.big_vision


def make(config):
    """What becomes of a config; parameters without a schedule are frozen."""
    assert config.schedule[0] == ("embed/.*", None)
    frozen = {
        name: {"kernel": name == "embed", "bias": name == "embed"} for name in SHAPES
    }
    trained = jax.tree.map(operator.not_, frozen)
    rule = operator.attrgetter(config.optax_name)(optax)(**config.optax)
    return optax.chain(
        optax.masked(optax.clip_by_global_norm(config.grad_clip_norm), trained),
        optax.masked(rule, trained),
        optax.scale(config.lr),
        optax.masked(optax.scale_by_schedule(FALLING), trained),
        optax.masked(optax.set_to_zero(), frozen),
        optax.scale(-1.0),
    )


def init(key):
    keys = jax.random.split(key, len(SHAPES))
    return {
        name: {"kernel": jax.random.normal(k, shape) / 2, "bias": jnp.zeros(shape[1])}
        for k, (name, shape) in zip(keys, SHAPES.items(), strict=True)
    }


def logits(params):
    x = jax.random.normal(jax.random.key(2), (12, 4))
    for layer in (params["embed"], params["body"]):
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
    return x @ params["head"]["kernel"] + params["head"]["bias"]


def loss(params):
    # Large enough to be clipped.
    labels = jnp.arange(12) % 3
    losses = optax.softmax_cross_entropy_with_integer_labels(logits(params), labels)
    return 10 * losses.mean()


def penalty(params):
    return jnp.mean(logits(params) ** 2)


def train(tx, gradients):
    """In the order of ``train.py``, with the line that the page adds."""
    shapes = jax.eval_shape(init, jax.random.key(0))
    state_shapes = jax.eval_shape(tx.init, shapes)
    params = jax.jit(init)(jax.random.key(0))
    opt = jax.jit(tx.init)(params)
    assert jax.tree.structure(opt) == jax.tree.structure(state_shapes)
    params = init(jax.random.key(1))  # which is loaded only now
    opt = jax.jit(tx.init)(params)

    @jax.jit
    def update(params, opt):
        updates, opt = tx.update(gradients(params), opt, params)
        return optax.apply_updates(params, updates), opt

    for _ in range(5):
        params, opt = update(params, opt)
    return params, opt


def test_parameters(scope):
    params, opt = train(make(scope["config"]), jax.grad(loss))
    assert list(dtnh_jax.conflict_report(opt)) == ["body", "head"]
    start = init(jax.random.key(1))
    embed = start.pop("embed")
    assert (params.pop("embed")["kernel"] == embed["kernel"]).all()

    @jax.jit
    def clipped(trained):
        found = jax.grad(lambda w: loss({"embed": embed, **w}))(trained)
        norm = jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(found)))
        return jax.tree.map(lambda x: x / norm, found), norm

    def grads(trained, t):
        found, norm = clipped(trained)
        assert norm > 1
        return found

    rates = [scope["config"].lr * float(FALLING(t)) for t in range(5)]
    steady.check(params, start, grads, rates=rates, b2=0.95)


def test_a_stack_in_the_config(scope):
    config = scope["config"].copy_and_resolve_references()
    config.optax.stacked = {"body": 0}
    params = init(jax.random.key(0))
    opt = jax.jit(make(config).init)(params)
    layers = [f"body[{i}]" for i in range(8)]
    assert list(dtnh_jax.conflict_report(opt)) == [*layers, "head"]


def test_distillation(scope):
    rate = optax.linear_schedule(0.01, 0.0, 10)
    tx = optax.chain(scope["steady"](), optax.scale_by_learning_rate(rate))

    def pair(params):
        return dtnh_jax.pair_value_and_grad(lambda w: (loss(w), penalty(w)))(params)[1]

    params, _ = train(tx, pair)
    rates = [float(rate(t)) for t in range(5)]

    @jax.jit
    def grads(w, t):
        return jax.grad(loss)(w), jax.grad(penalty)(w)

    steady.check(params, init(jax.random.key(1)), grads, rates=rates)
