"""What Optax asks of the optimizers contributed to it, asked of everything here.

After ``optax/contrib/_common_test.py`` in Optax's repository, with a regularizer.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optimizers import (
    PLAIN_WAYS,
    every_optimizer,
    gradients,
    one_step,
    optimizer,
    types,
)

from dtnh_jax import dtnh, dtnh_adamw, dtnh_sgd, l2, l2_sp

pytestmark = pytest.mark.usefixtures("lenient_promotion")


def rosenbrock(w):
    """One valley, with ``a`` three times."""
    return jnp.sum((1 - w["a"]) ** 2 + 100 * (w["b"][None] - w["a"] ** 2) ** 2)


@pytest.mark.parametrize(("name", "way"), [("multi_steps", "pair"), *PLAIN_WAYS])
def test_converges_against_a_regularizer_that_fades(name, way):
    start = {"a": jnp.zeros(3), "b": jnp.zeros(())}
    anchor = jax.tree.map(lambda x: x - 0.5, start)
    fading = optax.exponential_decay(0.5, transition_steps=100, decay_rate=0.5)
    tx = optimizer(name, way, anchor, fading)

    def step(carry, _):
        w, state = carry
        grads = gradients(way, jax.grad(rosenbrock)(w), w, anchor)
        updates, state = tx.update(grads, state, w)
        return (optax.apply_updates(w, updates), state), None

    run = jax.jit(lambda w: jax.lax.scan(step, (w, tx.init(w)), length=5000)[0][0])
    for x in jax.tree.leaves(run(start)):
        np.testing.assert_allclose(x, jnp.ones_like(x), atol=3e-2)


@every_optimizer
@pytest.mark.parametrize("dtype", ["bfloat16", "float64", "complex64"])
def test_types_of_updates_and_state_are_stable(name, way, dtype):
    """Updates are typed as the parameters; either branch of a cond may keep a state.

    So a second step is not compiled anew: types are all that a program is chosen by.
    """
    with jax.enable_x64(dtype == "float64"):
        step, params, tx = one_step(name, way, jnp.dtype(dtype))
        state = tx.init(params)
        assert types(jax.eval_shape(tx.init, params)) == types(state)
        assert types(tx.init(jax.eval_shape(lambda: params))) == types(state)

        def maybe(params, state, chance):
            return jax.lax.cond(
                chance,
                lambda: step(params, state, an_argument_that_nobody_expects=1),
                lambda: (params, state),
            )

        updates, new = jax.eval_shape(maybe, params, state, jnp.array(True))
        assert types(updates) == types(params)
        assert types(new) == types(state)


@pytest.mark.parametrize(("name", "way"), PLAIN_WAYS)
def test_types_are_stable_under_optax_multi_steps(name, way):
    """The numbers are in the table of compositions."""
    _, params, tx = one_step(name, way, jnp.bfloat16)
    multi = optax.MultiSteps(tx, 2)
    state = multi.init(params)
    updates, new = jax.eval_shape(multi.update, params, state, params)
    assert types(updates) == types(params)
    assert types(new) == types(state)


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
        (dtnh, {"weight": 0.5, "max_ratio": 0.3, "reference_decay": 0.5}, "pair"),
        (dtnh, {"granularity": "leaf", "inner": optax.trace(0.9)}, "pair"),
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
