"""``pair_value_and_grad``: right, one forward pass, and no dearer than it must be."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtnh_jax import GradientPair, logit_distillation, pair_value_and_grad

W, X = jnp.array([1.0, -2.0, 3.0]), jnp.array([0.5, 1.0, 2.0])


def losses(w, x, scale=1.0):
    hidden = jnp.tanh(w * x)
    return jnp.sum(hidden**2) * scale, jnp.sum(hidden * w)


close = functools.partial(chex.assert_trees_all_close, rtol=1e-5, atol=1e-7)


def by_jax(fun, *args, argnums=0, **kwargs):
    """The same from two calls of ``jax.value_and_grad``."""
    values, gradients = zip(
        *(
            jax.value_and_grad(lambda *a, i=i: fun(*a, **kwargs)[i], argnums)(*args)
            for i in (0, 1)
        ),
        strict=True,
    )
    return values, GradientPair(*gradients)


@pytest.mark.parametrize("argnums", [1, -1, (0,), [1, 0], (-2, -1)])
def test_values_and_gradients_are_those_of_two_calls(argnums):
    expected = by_jax(losses, W, X, argnums=argnums, scale=3.0)
    close(pair_value_and_grad(losses, argnums)(W, X, scale=3.0), expected)


def test_aux_is_nested_as_jax_nests_it():
    def fun(w):
        return losses(w, X), {"seen": w, "name": "a string"}

    (values, aux), pair = pair_value_and_grad(fun, has_aux=True)(W)
    close((values, pair), by_jax(losses, W, X))
    np.testing.assert_array_equal(aux["seen"], W)
    assert aux["name"] == "a string"


def test_pytrees_and_arrays_on_which_a_value_does_not_depend():
    params = {"a": W, "b": [X, None, 2.0], "unused": jnp.ones(2)}

    def fun(p):
        return jnp.sum(p["a"] * 2), p["b"][2] * jnp.sum(p["b"][0])

    pair = pair_value_and_grad(fun)(params)[1]
    zeros = jax.tree.map(jnp.zeros_like, params)
    close(pair.empirical, {**zeros, "a": jnp.full(3, 2.0)})
    close(pair.regularizer, {**zeros, "b": [jnp.full(3, 2.0), None, jnp.sum(X)]})


def test_a_constant_may_stand_for_the_penalty():
    (_, penalty), pair = pair_value_and_grad(lambda w: (jnp.sum(w), 0.0))(W)
    assert penalty == 0
    close(pair, GradientPair(jnp.ones(3), jnp.zeros(3)))


@jax.custom_vjp
def doubled(x):
    return x


doubled.defvjp(lambda x: (x, None), lambda _, ct: (2 * ct,))

BODIES = {
    "plain": losses,
    "jit": jax.jit(losses),
    "checkpoint": jax.checkpoint(losses),
    "custom_vjp": lambda w, x: losses(doubled(w), x),
    "scan": lambda w, x: jax.lax.scan(
        lambda c, _: ((c[0] + losses(w, x)[0], c[1] * c[1] + c[0]), None),
        losses(w, x),
        length=3,
    )[0],
    "cond": lambda w, x: jax.lax.cond(
        w[0] > 0, losses, lambda w, x: (w.sum(), 0.0), w, x
    ),
    "while": lambda w, x: losses(
        w, jax.lax.while_loop(lambda x: x[0] < 9, lambda x: 2 * x, x)
    ),
}
TRANSFORMS = {
    "jit": jax.jit,
    "vmap": lambda f: lambda w: jax.tree.map(lambda a: a[0], jax.vmap(f)(w[None])),
    "scan": lambda f: (
        lambda w: jax.lax.scan(lambda _, x: (f(x), None), f(w), w[None])[0]
    ),
    "checkpoint": jax.checkpoint,
}


@pytest.mark.parametrize("body", BODIES)
def test_under_transformations_and_round_them(body):
    fun = functools.partial(BODIES[body], x=X)
    expected = jax.jit(functools.partial(by_jax, fun))(W)
    both = pair_value_and_grad(fun)
    found = jax.jit(lambda w: [around(both)(w) for around in TRANSFORMS.values()])(W)
    for each in found:
        close(each, expected)


@pytest.mark.parametrize("body", ["plain", "jit", "checkpoint"])
def test_gradient_of_the_gradients(body):
    fun = functools.partial(BODIES[body], x=X)

    def product(both):
        return lambda w: jnp.sum(both(w)[1].empirical * both(w)[1].regularizer)

    actual = jax.jit(jax.grad(product(pair_value_and_grad(fun))))(W)
    close(actual, jax.jit(jax.grad(product(functools.partial(by_jax, fun))))(W))


def test_complex_arguments_follow_the_convention_of_jax():
    z = jnp.array([1 + 2j, 3 - 1j], jnp.complex64)

    def fun(z):
        return jnp.sum(jnp.abs(z)), jnp.sum(jnp.real(z * z))

    close(pair_value_and_grad(fun)(z), by_jax(fun, z))


def test_values_and_arguments_of_several_dtypes():
    def fun(p):
        half = p["half"].astype(jnp.float32)
        return (half @ p["single"]).astype(jnp.float16), jnp.sum(half)

    params = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.ones(2)}
    values, pair = pair_value_and_grad(fun)(params)
    assert [v.dtype for v in values] == [jnp.float16, jnp.float32]
    chex.assert_trees_all_equal_dtypes(*pair, params)
    close(pair, by_jax(fun, params)[1])


def test_the_function_runs_once_and_both_values_see_one_mask():
    runs = []

    def fun(w, key):
        jax.debug.callback(lambda: runs.append(1))
        mask = jax.random.bernoulli(key, 0.5, w.shape)
        kept = jnp.where(mask, w, 0)
        return (jnp.sum(kept), jnp.sum(kept * kept)), mask

    both = jax.jit(pair_value_and_grad(fun, has_aux=True))
    (_, mask), pair = both(jnp.ones(100), jax.random.key(0))
    jax.effects_barrier()
    assert len(runs) == 1
    assert 0 < mask.sum() < 100
    np.testing.assert_array_equal(pair.empirical, mask)
    np.testing.assert_array_equal(pair.regularizer, 2.0 * np.asarray(mask))


def mlp(params, x):
    """The features after each of the layers."""
    features = []
    for w in params:
        x = jnp.tanh(x @ w)
        features.append(x)
    return features


@pytest.mark.parametrize(("layer", "most"), [(-1, 1.70), (3, 1.45)])
def test_work_and_memory(layer, most):
    """5/3 of the joint gradient's work at most, and less where the penalty is early."""
    rng = np.random.default_rng(0)
    params = [jnp.asarray(w, jnp.float32) for w in rng.normal(0, 0.1, (8, 64, 64))]
    x, target = jnp.asarray(rng.normal(size=(2, 128, 64)), jnp.float32)

    def fun(params):
        features = mlp(params, x)
        loss = jnp.mean((features[-1] - target) ** 2)
        return loss, logit_distillation(features[layer], target)

    def cost(way):
        compiled = jax.jit(way).lower(params).compile()
        memory = compiled.memory_analysis().temp_size_in_bytes
        return compiled.cost_analysis()["flops"], memory

    work, memory = cost(pair_value_and_grad(fun))
    work_of_sum, _ = cost(jax.value_and_grad(lambda params: sum(fun(params))))
    assert 1 < work / work_of_sum <= most
    assert memory <= cost(functools.partial(by_jax, fun))[1]


def returns(output, **kwargs):
    return lambda: pair_value_and_grad(lambda w: output(jnp.sum(w)), **kwargs)(W)


def call(*args, fun=losses, argnums=0, **kwargs):
    return lambda: pair_value_and_grad(fun, argnums)(*args, **kwargs)


REFUSED = {
    "must return (loss, penalty) with has_aux=False, where loss and penalty are real "
    "floating-point scalars; it returned float32[]": returns(lambda s: s),
    "returned (float32[])": returns(lambda s: (s,)),
    "returned (float32[], float32[], float32[])": returns(lambda s: (s, s, s)),
    "returned list": returns(lambda s: [s, s]),
    "returned NoneType": returns(lambda s: None),
    "returned (float32[], dict)": returns(lambda s: (s, {"a": s})),
    "returned (float32[], NoneType)": returns(lambda s: (s, None)),
    "returned ((float32[], float32[]), int)": returns(lambda s: ((s, s), 1)),
    "must return ((loss, penalty), aux)": returns(lambda s: (s, s), has_aux=True),
    "with has_aux=True": returns(lambda s: (s, s, s), has_aux=True),
    "returned (float32[1], float32[])": returns(lambda s: (s[None], s)),
    "returned (float32[], int32[])": returns(lambda s: (s, s.astype(int))),
    "returned (complex64[], float32[])": returns(lambda s: (s.astype(complex), s)),
    "argument 0 at ['a'][0] is not floating-point or complex, got int32[3]": call(
        {"a": [jnp.ones(3, int)]}, X
    ),
    "argument 1 is not floating-point or complex, got str": call(W, "x", argnums=-1),
    "argument 2 needs at least 3 positional arguments, got 2": call(
        W, X, argnums=(0, 2)
    ),
    "positional arguments, got 0": call(w=W, x=X),
    "names an argument twice: (1, -1)": call(W, X, argnums=(1, -1)),
    "`argnums` has -3, but there are 2 arguments": call(W, X, argnums=-3),
    "integers, got ['w']": call(W, X, argnums="w"),
    "integers, got [0.5]": call(W, X, argnums=0.5),
    "integers, got []": call(W, X, argnums=()),
    "`fun` must be a function": call(fun=W),
}


@pytest.mark.parametrize("says", REFUSED)
def test_refused_with_words(says):
    with pytest.raises((TypeError, ValueError), match=re.escape(says)):
        REFUSED[says]()
