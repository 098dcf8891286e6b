"""``pair_value_and_grad``: right, one forward pass, and no dearer than it must be."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest

from dtnh_jax import GradientPair, pair_value_and_grad

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


@pytest.mark.parametrize("argnums", [0, 1, -1, (0,), (0, 1), [1, 0], (-2, -1)])
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
    "none": lambda f: f,
    "jit": jax.jit,
    "vmap": lambda f: lambda w: jax.tree.map(lambda a: a[0], jax.vmap(f)(w[None])),
    "scan": lambda f: lambda w: jax.lax.scan(lambda c, _: (c, f(c)), w, length=1)[1],
    "checkpoint": jax.checkpoint,
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("body", BODIES)
def test_under_transformations_and_round_them(body, transform):
    fun = functools.partial(BODIES[body], x=X)
    actual = jax.jit(TRANSFORMS[transform](pair_value_and_grad(fun)))(W)
    if transform == "scan":
        actual = jax.tree.map(lambda a: a[0], actual)
    close(actual, twice(body))


@functools.cache
def twice(body):
    return jax.jit(functools.partial(by_jax, functools.partial(BODIES[body], x=X)))(W)


@pytest.mark.parametrize("body", ["plain", "jit", "checkpoint"])
def test_gradient_of_the_gradients(body):
    fun = functools.partial(BODIES[body], x=X)
    product = lambda both: jnp.sum(both[1].empirical * both[1].regularizer)  # noqa: E731
    actual = jax.jit(jax.grad(lambda w: product(pair_value_and_grad(fun)(w))))(W)
    close(actual, jax.jit(jax.grad(lambda w: product(by_jax(fun, w))))(W))


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


def test_integers_have_float0_gradients_if_allowed():
    params = {"step": 3, "key": jax.random.key(0), "w": W}

    def fun(p, mask):
        noise = jax.random.normal(p["key"], (3,))
        return jnp.sum(p["w"] * noise) * p["step"], jnp.sum(jnp.where(mask, p["w"], 0))

    mask = jnp.array([True, False, True])
    _, pair = pair_value_and_grad(fun, (0, 1), allow_int=True)(params, mask)
    for tree, mask_gradient in pair:
        assert tree["step"].dtype == tree["key"].dtype == jax.dtypes.float0
        assert mask_gradient.dtype == jax.dtypes.float0
        assert mask_gradient.shape == (3,)
    close(pair.regularizer[0]["w"], jnp.array([1.0, 0.0, 1.0]))


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


@functools.cache
def cost(way, network, penalty):
    """Flops, and bytes beside arguments and results, of a way to both gradients."""
    fun = way(networks.losses(network, penalty))
    compiled = jax.jit(fun).lower(*networks.arguments(network)).compile()
    memory = compiled.memory_analysis().temp_size_in_bytes
    return compiled.cost_analysis()["flops"], memory


def of_the_sum(fun):
    return jax.value_and_grad(lambda *args: sum(fun(*args)))


def separately(fun):
    return lambda *args: by_jax(fun, *args)


def two_forward_passes(fun):
    """``separately``, at points a little apart, lest XLA make one pass of the two."""

    def both(params, *args):
        again = jax.tree.map(lambda w: w * 1.001, params)
        loss = jax.value_and_grad(lambda p: fun(p, *args)[0])(params)
        return loss, jax.value_and_grad(lambda p: fun(p, *args)[1])(again)

    return both


def one_hot_pullbacks(fun):
    """The obvious way, whose zeros go back through the whole network."""

    def both(params, *args):
        values, pullback = jax.vjp(lambda p: fun(p, *args), params)
        one, zero = jnp.ones(()), jnp.zeros(())
        return values, pullback((one, zero)), pullback((zero, one))

    return both


RESNETS = [
    pytest.param(
        networks.ResNet(blocks=1), "features", id="ResNet-10", marks=pytest.mark.slow
    ),
    pytest.param(networks.ResNet(), "features", id="ResNet-18", marks=pytest.mark.slow),
]
MLPS = [
    pytest.param(networks.Mlp(), penalty, id=f"MLP {penalty}")
    for penalty in ("logits", "features", 3)
]


@pytest.mark.parametrize(("network", "penalty"), MLPS + RESNETS)
def test_work_and_memory(network, penalty):
    """5/3 of the joint gradient's work at most, and less where the penalty is early."""
    work, memory = cost(pair_value_and_grad, network, penalty)
    work_of_sum, _ = cost(of_the_sum, network, penalty)
    _, memory_of_two = cost(separately, network, penalty)
    assert 1 < work / work_of_sum <= (1.45 if penalty == 3 else 1.70)
    assert memory <= memory_of_two


def test_the_measure_sees_what_other_ways_cost():
    """A test of the test."""
    mlp = networks.Mlp()
    for penalty, bound, way in (
        ("logits", 1.9, two_forward_passes),
        (3, 1.6, one_hot_pullbacks),
    ):
        work_of_sum, _ = cost(of_the_sum, mlp, penalty)
        assert cost(way, mlp, penalty)[0] > bound * work_of_sum


def returns(output, **kwargs):
    return lambda: pair_value_and_grad(lambda w: output(jnp.sum(w)), **kwargs)(W)


@pytest.mark.parametrize(
    ("act", "error", "says"),
    [
        (
            returns(lambda s: s),
            TypeError,
            "must return (loss, penalty) with has_aux=False, where loss and penalty",
        ),
        (returns(lambda s: s), TypeError, "it returned float32[]"),
        (returns(lambda s: (s,)), TypeError, "it returned (float32[])"),
        (returns(lambda s: (s, s, s)), TypeError, "(float32[], float32[], float32[])"),
        (returns(lambda s: [s, s]), TypeError, "it returned list"),
        (returns(lambda s: None), TypeError, "it returned NoneType"),
        (returns(lambda s: (s, {"a": s})), TypeError, "(float32[], dict)"),
        (returns(lambda s: (s, None)), TypeError, "(float32[], NoneType)"),
        (returns(lambda s: ((s, s), 1)), TypeError, "with has_aux=False"),
        (
            returns(lambda s: (s, s), has_aux=True),
            TypeError,
            "must return ((loss, penalty), aux)",
        ),
        (returns(lambda s: (s, s, s), has_aux=True), TypeError, "with has_aux=True"),
        (returns(lambda s: (s[None], s)), TypeError, "(float32[1], float32[])"),
        (returns(lambda s: (s, s.astype(int))), TypeError, "(float32[], int32[])"),
        (returns(lambda s: (s.astype(complex), s)), TypeError, "(complex64[], "),
        (
            lambda: pair_value_and_grad(losses)({"a": [jnp.ones(3, int)]}, X),
            TypeError,
            "argument 0 at ['a'][0] is not floating-point or complex, got int32[3]",
        ),
        (
            lambda: pair_value_and_grad(losses, -1)(W, "x"),
            TypeError,
            "argument 1 is not floating-point or complex, got str",
        ),
        (
            lambda: pair_value_and_grad(losses, (0, 2))(W, X),
            TypeError,
            "argument 2 needs at least 3 positional arguments, got 2",
        ),
        (lambda: pair_value_and_grad(losses)(w=W, x=X), TypeError, "arguments, got 0"),
        (
            lambda: pair_value_and_grad(losses, -3)(W, X),
            ValueError,
            "`argnums` has -3, but there are 2 arguments",
        ),
        (lambda: pair_value_and_grad(losses, "w"), TypeError, "integers, got ['w']"),
        (lambda: pair_value_and_grad(losses, 0.5), TypeError, "integers, got [0.5]"),
        (lambda: pair_value_and_grad(losses, ()), TypeError, "integers, got []"),
        (lambda: pair_value_and_grad(W), TypeError, "`fun` must be a function"),
    ],
)
def test_refused_with_words(act, error, says):
    with pytest.raises(error, match=re.escape(says)):
        act()
