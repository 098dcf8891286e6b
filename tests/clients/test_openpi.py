"""openpi's pattern: a config's ``create``, then ``init`` on an NNX state in a jit."""

import jax
import jax.numpy as jnp
import optax
import page
import pytest
import steady
from flax import nnx

from dtnh_jax.nnx import nnx_pair_value_and_grad

TRAINED = nnx.All(nnx.Param, nnx.Not(nnx.PathContains("frozen")))
RATE = optax.warmup_cosine_decay_schedule(2e-3, 1e-2, 2, 10)
x = jax.random.normal(jax.random.key(3), (12, 8))


@pytest.fixture(scope="module")
def scope():
    return page.run("openpi")


class Layers(nnx.Module):
    def __init__(self, rngs):
        @nnx.split_rngs(splits=3)
        @nnx.vmap
        def layers(rngs):
            return nnx.Linear(8, 8, rngs=rngs)

        self.inner = layers(rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
        def through(layer, x):
            return x + nnx.relu(layer(x))

        return through(self.inner, x)


class Model(nnx.Module):
    """With stacked layers under the names that openpi gives them."""

    def __init__(self, rngs):
        tower = nnx.Dict(encoderblock=Layers(rngs))
        self.PaliGemma = nnx.Dict(
            llm=nnx.Dict(layers=Layers(rngs)), img=nnx.Dict(Transformer=tower)
        )
        self.frozen = nnx.Linear(8, 8, rngs=rngs)
        self.head = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        x = self.PaliGemma.img.Transformer.encoderblock(self.frozen(x))
        return self.head(self.PaliGemma.llm.layers(x))


def loss(model):
    labels = jnp.arange(12) % 3
    losses = optax.softmax_cross_entropy_with_integer_labels(model(x), labels)
    return 10 * losses.mean()  # large enough to be clipped


def both(model):
    return loss(model), jnp.mean(model(x) ** 2)


def train(tx, update):
    """The trained parameters at ``init``, and after some steps."""

    @jax.jit
    def init(pretrained):
        graph, params = nnx.split(Model(nnx.Rngs(0)))
        nnx.replace_by_pure_dict(params, pretrained)
        model = nnx.merge(graph, params)
        return params, tx.init(nnx.state(model, TRAINED))

    graph, pretrained = nnx.split(Model(nnx.Rngs(1)))
    pretrained = nnx.to_pure_dict(pretrained)
    jax.eval_shape(init, pretrained)  # for shardings

    @jax.jit
    def step(params, opt_state):
        model = nnx.merge(graph, params)
        trained = nnx.state(model, TRAINED)
        updates, opt_state = update(model, opt_state, trained)
        nnx.update(model, optax.apply_updates(trained, updates))
        return nnx.state(model), opt_state

    params, opt_state = init(pretrained)
    start = params
    for _ in range(5):
        params, opt_state = step(params, opt_state)
    found = (nnx.filter_state(state, TRAINED) for state in (start, params))
    return [*map(nnx.to_pure_dict, found)]


def gradients(of):
    """The gradients of the values of ``of``, the first clipped to a norm of 1."""
    graph, trained, rest = nnx.split(Model(nnx.Rngs(1)), TRAINED, ...)

    def values(params):
        state = jax.tree.map(lambda v: v, trained)
        nnx.replace_by_pure_dict(state, params)
        return of(nnx.merge(graph, state, rest, copy=True))

    @jax.jit
    def grads(params, t):
        g, *others = jax.jacrev(values)(params)
        norm = jnp.sqrt(sum(jnp.sum(v**2) for v in jax.tree.leaves(g)))
        return jax.tree.map(lambda v: v / jnp.maximum(norm, 1), g), *others

    return grads


def check(start, actual, of):
    layers = steady.layers_of(start, stacked=lambda path: path[0].key == "PaliGemma")
    assert len(layers) == 7
    rates = [float(RATE(t)) for t in range(5)]
    steady.check(
        actual,
        start,
        gradients(of),
        layers=list(layers.values()),
        decayed=steady.decayed_of(start, lambda path, x: path[-1].key == "kernel"),
        rates=rates,
        b2=0.95,
    )


def test_parameters(scope):
    tx = scope["Steady"]().create(RATE)

    def update(model, opt_state, params):
        grads = nnx.grad(loss, argnums=nnx.DiffState(0, TRAINED))(model)
        return tx.update(grads, opt_state, params)

    check(*train(tx, update), lambda model: (loss(model),))


def test_distillation(scope):
    tx = scope["Steady"]().create(RATE)

    def update(model, opt_state, params):
        argnums = nnx.DiffState(0, TRAINED)
        _, pair = nnx_pair_value_and_grad(both, argnums=argnums)(model)
        return tx.update(
            pair.empirical, opt_state, params, regularizer_grads=pair.regularizer
        )

    check(*train(tx, update), both)
