"""What Optax asks of the optimizers contributed to it, asked of everything here.

After ``optax/contrib/_common_test.py`` and ``optax/_src/sharding_test.py`` in Optax's
repository, in our own words, and with the regularizer's gradient beside.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dtnh_jax import (
    GradientPair,
    dtnh,
    dtnh_adamw,
    dtnh_sgd,
    l2,
    l2_sp,
    mix_regularizers,
    multi_steps,
    skip_nonfinite,
)

pytestmark = pytest.mark.usefixtures("lenient_promotion")

RATE = 1e-3
STEADY = {"granularity": "layer", "reference_decay": 0.9, "max_ratio": 1.0}


def _dtnh(weight, momentum=0.9, **kwargs):
    return optax.chain(dtnh(weight, **kwargs), optax.sgd(RATE, momentum))


def first_axis(tree):
    """Every array that has an axis holds a layer in each row."""
    return jax.tree.map(lambda x: 0 if jnp.ndim(x) else None, tree)


# Each takes the weight, and is to be given pairs.
OPTIMIZERS = {
    **{
        f"dtnh {granularity}": functools.partial(_dtnh, granularity=granularity)
        for granularity in ("global", "layer", "leaf")
    },
    "dtnh inner": functools.partial(_dtnh, momentum=None, inner=optax.trace(0.9)),
    "dtnh steady": functools.partial(
        _dtnh, momentum=None, inner=optax.trace(0.9), **STEADY
    ),
    "dtnh stacked": functools.partial(_dtnh, stacked=first_axis, **STEADY),
    "dtnh drop": functools.partial(_dtnh, on_conflict="drop"),
    "dtnh_sgd": lambda weight: dtnh_sgd(RATE, 0.9, weight=weight),
    "dtnh_adamw": lambda weight: dtnh_adamw(
        1e-2, weight=weight, reference_decay=0.5, max_ratio=0.5
    ),
    "multi_steps": lambda weight: multi_steps(_dtnh(weight), 2),
    "skip_nonfinite": lambda weight: skip_nonfinite(_dtnh(weight)),
}
# What makes the pair of a plain gradient, from the pretrained parameters.
MAKERS = {
    "pair": lambda pretrained: optax.identity(),
    "l2_sp": lambda pretrained: l2_sp(pretrained=pretrained),
    "l2": lambda pretrained: l2(),
    "mix": lambda pretrained: mix_regularizers(l2_sp(pretrained=pretrained), l2()),
}
WAYS = [(name, "pair") for name in OPTIMIZERS] + [
    ("dtnh layer", "l2_sp"),
    ("dtnh stacked", "mix"),
    ("dtnh_sgd", "l2"),
    ("dtnh_adamw", "mix"),
    ("skip_nonfinite", "l2_sp"),
]
every_optimizer = pytest.mark.parametrize(("name", "way"), WAYS)


def optimizer(name, way, pretrained, weight=0.5):
    return optax.chain(MAKERS[way](pretrained), OPTIMIZERS[name](weight))


def gradients(way, g, params, pretrained):
    if way != "pair":
        return g
    return GradientPair(g, jax.tree.map(jnp.subtract, params, pretrained))


def network(dtype=jnp.float32, seed=0):
    """The head and the bias are the same for every seed."""
    kernel = np.random.default_rng(seed).standard_normal((2, 8, 4))
    params = {"body": {"kernel": kernel, "bias": np.ones(8)}, "head": np.ones(())}
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), params)


def types(tree):
    return jax.tree.map(jax.typeof, tree)


def one_step(name, way, dtype=jnp.float32):
    """``step(params, state)``, its arguments, and the optimizer."""
    params, pretrained = network(dtype), network(dtype, seed=1)
    tx = optimizer(name, way, pretrained)

    def step(params, state, **kwargs):
        grads = gradients(way, params, params, pretrained)
        return tx.update(grads, state, params, **kwargs)

    return step, params, tx


def parabola(w):
    return jnp.sum((w["a"] - jnp.array([1.0, -1.0, 1.0])) ** 2) + (w["b"] - 1) ** 2


def rosenbrock(w):
    """One valley, with ``a`` three times."""
    a, b = w["a"], w["b"][None]
    return jnp.sum((1 - a) ** 2 + 100 * (b - a**2) ** 2)


# The loss, where to begin, and where ``a`` ends; ``b`` ends at 1.
TARGETS = {
    "parabola": (0, {"a": np.float32([-1, 10, 1]), "b": np.float32(0)}, [1, -1, 1]),
    "rosenbrock": (1, {"a": np.zeros(3, np.float32), "b": np.float32(0)}, [1, 1, 1]),
}


@functools.cache
def descent(name, way):
    """5000 steps on either target, in one program for both."""

    def run(which, start):
        anchor = jax.tree.map(lambda x: x - 0.5, start)
        fading = optax.exponential_decay(0.5, transition_steps=100, decay_rate=0.5)
        tx = optimizer(name, way, anchor, fading)

        def step(carry, _):
            w, state = carry
            g = jax.lax.switch(which, [jax.grad(parabola), jax.grad(rosenbrock)], w)
            updates, state = tx.update(gradients(way, g, w, anchor), state, w)
            return (optax.apply_updates(w, updates), state), None

        return jax.lax.scan(step, (start, tx.init(start)), length=5000)[0][0]

    return jax.jit(run)


@every_optimizer
@pytest.mark.parametrize("target", TARGETS)
def test_converges_against_a_regularizer_that_fades(name, way, target):
    which, start, end = TARGETS[target]
    found = descent(name, way)(which, start)
    np.testing.assert_allclose(found["a"], end, atol=3e-2)
    np.testing.assert_allclose(found["b"], 1.0, atol=3e-2)


@every_optimizer
@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float32", "float64", "complex64"]
)
def test_types_of_updates_and_state_are_stable(name, way, dtype):
    """Updates are typed as the parameters; either branch of a cond may keep a state.

    So a second step is not compiled anew: types are all that a program is chosen by.
    """
    with jax.enable_x64(dtype == "float64"):
        step, params, tx = one_step(name, way, jnp.dtype(dtype))
        state = tx.init(params)
        assert types(jax.eval_shape(tx.init, params)) == types(state)

        def maybe(params, state, chance):
            return jax.lax.cond(
                chance,
                lambda: step(params, state, an_argument_that_nobody_expects=1),
                lambda: (params, state),
            )

        updates, new = jax.eval_shape(maybe, params, state, jnp.array(True))
        assert types(updates) == types(params)
        assert types(new) == types(state)


@every_optimizer
def test_init_takes_abstract_parameters(name, way):
    _, params, tx = one_step(name, way)
    state = tx.init(jax.eval_shape(lambda: params))
    assert types(state) == types(tx.init(params))


@every_optimizer
def test_map_params_reaches_what_is_shaped_like_the_parameters(name, way):
    step, params, tx = one_step(name, way)
    _, state = jax.eval_shape(step, params, tx.init(params))
    assert optax.tree.map_params(tx, lambda x: x, state) == state
    seen = []
    optax.tree.map_params(tx, lambda x: seen.append(x.shape), state)
    shapes = [x.shape for x in jax.tree.leaves(params)]
    assert seen == shapes * (len(seen) // len(shapes))
    assert seen


PARAMS = {"a": -jnp.ones((2, 3)), "b": {"c": jnp.ones((2, 5, 2))}}
GRADS = jax.tree.map(lambda x: -x, PARAMS)


@pytest.mark.parametrize(
    ("factory", "kwargs", "way"),
    [
        (dtnh, {"weight": 0.5, "max_ratio": 0.3}, "pair"),
        (dtnh, {"granularity": "leaf", "reference_decay": 0.5}, "pair"),
        (dtnh, {"inner": optax.trace(0.9)}, "pair"),
        (dtnh_sgd, {"learning_rate": 0.1, "momentum": 0.9, "weight": 0.5}, "pair"),
        (dtnh_adamw, {"learning_rate": 0.1, "weight_decay": 0.1}, "pair"),
        (l2_sp, {"pretrained": GRADS, "alpha": 0.1, "beta": 0.1}, "l2_sp"),
        (l2_sp, {"alpha": 0.1, "beta": 0.5, "new": {"a": True}}, "l2_sp"),
        (l2, {"alpha": 0.1, "mask": {"a": True, "b": False}}, "l2"),
    ],
)
def test_injected_hyperparameters_change_nothing(factory, kwargs, way):
    @jax.jit
    def one_update_of_each():
        grads = gradients(way, GRADS, PARAMS, jax.tree.map(lambda x: 3 * x, GRADS))
        both = factory(**kwargs), optax.inject_hyperparams(factory)(**kwargs)
        return [tx.update(grads, tx.init(PARAMS), PARAMS) for tx in both]

    (updates, state), (also, holder) = one_update_of_each()
    numbers = {k for k, v in kwargs.items() if isinstance(v, float)}
    assert numbers <= set(holder.hyperparams)
    chex.assert_trees_all_close(
        (also, holder.inner_state), (updates, state), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("hyperparam_dtype", [None, jnp.float32])
def test_injected_hyperparameters_in_bfloat16(hyperparam_dtype):
    """In bfloat16 b2 = 0.999 is 1, and Adam gives NaN: which is not of a wrong sign."""
    params = network(jnp.bfloat16)
    g = GradientPair(params, params)
    injected = optax.inject_hyperparams(dtnh_adamw, hyperparam_dtype=hyperparam_dtype)
    tx = injected(learning_rate=0.1)
    updates, _ = jax.jit(tx.update)(g, tx.init(params), params)
    if hyperparam_dtype is None:
        assert np.isnan(updates["head"])
    else:
        tx = dtnh_adamw(0.1)
        expected, _ = jax.jit(tx.update)(g, tx.init(params), params)
        chex.assert_trees_all_close(updates, expected, rtol=2**-6)


@pytest.mark.parametrize(("name", "way"), [x for x in WAYS if x[1] != "pair"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_types_are_stable_under_optax_multi_steps(name, way, dtype):
    """The numbers are in the table of compositions."""
    _, params, tx = one_step(name, way, jnp.dtype(dtype))
    multi = optax.MultiSteps(tx, 2)
    state = multi.init(params)
    updates, new = jax.eval_shape(multi.update, params, state, params)
    assert types(updates) == types(params)
    assert types(new) == types(state)
