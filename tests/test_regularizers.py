"""``l2_sp`` and ``l2``: their gradients, the anchor, what is new, what is refused."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dtnh_jax import (
    GradientPair,
    dtnh,
    dtnh_sgd,
    l2,
    l2_sp,
    mix_regularizers,
)

START = {
    "body": {"w": jnp.array([1.0, 2.0])},
    "head": {"w": jnp.array([[2.0]]), "b": jnp.array([-2.0])},
}
PARAMS = {
    "body": {"w": jnp.array([0.5, 4.0])},
    "head": {"w": jnp.array([[3.0]]), "b": jnp.array([-1.0])},
}
OTHER = jax.tree.map(lambda x: x - 0.25, START)
GRADS = jax.tree.map(jnp.ones_like, PARAMS)
NEW = {"head": True}


def regularizer(tx, start=START, params=PARAMS, grads=GRADS):
    pair, state = tx.update(grads, tx.init(start), params)
    chex.assert_trees_all_equal(pair.empirical, grads)
    chex.assert_trees_all_equal(state, tx.init(start))
    return pair.regularizer


def by_array(body, w, b):
    return {"body": {"w": body}, "head": {"w": w, "b": b}}


ONE_NEW = {"head": {"w": None, "b": OTHER["head"]["b"]}}
# How the anchor, and what is new, are said: the anchor, and which arrays are new.
SAID = {
    "init": ({}, START, (0, 0, 0)),
    "new": ({"new": NEW}, START, (0, 1, 1)),
    "new tree": ({"new": {"head": {"b": True, "w": False}}}, START, (0, 0, 1)),
    "new function": ({"new": lambda p: {"head": "head" in p}}, START, (0, 1, 1)),
    "all new": ({"new": True}, START, (1, 1, 1)),
    "none new": ({"new": {}}, START, (0, 0, 0)),
    "pretrained prefix": ({"pretrained": {**OTHER, "head": None}}, OTHER, (0, 1, 1)),
    "pretrained arrays": ({"pretrained": {**OTHER, **ONE_NEW}}, OTHER, (0, 1, 0)),
    "pretrained and new": (  # which may have another shape
        {
            "pretrained": {**OTHER, "head": {**OTHER["head"], "w": jnp.ones((2, 3))}},
            "new": {"head": {"w": True}},
        },
        OTHER,
        (0, 1, 0),
    ),
}


@pytest.mark.parametrize("said", SAID)
def test_l2_sp_is_the_gradient_of_its_penalty(said):
    options, anchor, new = SAID[said]
    expected = jax.tree.map(
        lambda w, w0, new: 0.7 * w if new else 0.3 * (w - w0),
        *(PARAMS, anchor, by_array(*new)),
    )
    chex.assert_trees_all_close(regularizer(l2_sp(0.3, 0.7, **options)), expected)


def test_what_is_new_is_left_alone_by_default():
    r = regularizer(l2_sp(0.3, new=NEW))
    chex.assert_trees_all_equal(r["head"], jax.tree.map(jnp.zeros_like, r["head"]))


@pytest.mark.parametrize(
    ("mask", "decayed"),
    [
        (None, (0, 1, 0)),  # of the body, the head's matrix, and its bias
        (True, (1, 1, 1)),
        ({"body": True, "head": {"w": True, "b": False}}, (1, 1, 0)),
        (lambda p: jax.tree.map(lambda x: x.ndim > 1, p), (0, 1, 0)),
        (False, (0, 0, 0)),
    ],
)
def test_l2_is_the_gradient_of_half_the_square(mask, decayed):
    expected = jax.tree.map(lambda x, k: 0.3 * k * x, PARAMS, by_array(*decayed))
    chex.assert_trees_all_close(regularizer(l2(0.3, mask)), expected)


@pytest.mark.parametrize("maker", [l2, l2_sp])
def test_dtypes_are_those_of_the_parameters(maker):
    """And differences have the precision of float32: 1 + 2^-7 - (1 + 2^-9)."""
    w = {"w": jnp.array([1.0078125], jnp.bfloat16)}  # one step of bfloat16 above 1
    anchor = {"w": jnp.array([1 + 2**-9], jnp.float32)}
    options = {"pretrained": anchor} if maker is l2_sp else {"mask": True}
    tx = maker(**options)
    r = regularizer(tx, w, w, w)["w"]
    assert r.dtype == jnp.bfloat16
    expected = 2**-7 - 2**-9 if maker is l2_sp else 1.0078125
    np.testing.assert_array_equal(r.astype(jnp.float32), [expected])
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), w)
    assert regularizer(maker(), wide, wide, w)["w"].dtype == jnp.float32


def test_complex_and_float64():
    z = {"w": jnp.array([3 + 4j])}
    chex.assert_trees_all_equal(regularizer(l2(0.5, True), z, z, z), {"w": z["w"] / 2})
    with jax.enable_x64(True):
        tiny = {"w": jnp.array([1.0 + 2**-40])}
        r = regularizer(l2_sp(), {"w": jnp.array([1.0])}, tiny, tiny)["w"]
        assert r.dtype == np.float64
        np.testing.assert_array_equal(r, [2**-40])


# The anchor: built late, copied, abstract, mapped over, donated, no constant.


def test_the_optimizer_may_be_built_before_the_parameters():
    """And one transformation initialised twice has two anchors."""
    tx = optax.chain(l2_sp(), dtnh())
    states = tx.init(START), tx.init(OTHER)
    for state, start in zip(states, (START, OTHER), strict=True):
        chex.assert_trees_all_equal(state[0].anchor, start)
        d, _ = tx.update(jax.tree.map(jnp.zeros_like, GRADS), state, PARAMS)
        chex.assert_trees_all_close(d, jax.tree.map(jnp.subtract, PARAMS, start))


def abstract(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def steady(**kwargs):
    return optax.chain(mix_regularizers(l2_sp(**kwargs), l2()), dtnh_sgd(0.1, 0.9))


@pytest.mark.parametrize(
    "anchored", [{}, {"new": NEW}, {"pretrained": {**OTHER, "head": None}}]
)
def test_init_on_abstract_parameters(anchored):
    tx = steady(**anchored)
    expected = abstract(tx.init(START))
    assert abstract(jax.eval_shape(tx.init, abstract(START))) == expected
    assert abstract(tx.init(abstract(START))) == expected


def test_map_params_reaches_the_anchor():
    """Where an array is new there is none: ``is_leaf`` lets another tree have one."""
    tx = steady(new=NEW)
    doubled = optax.tree.map_params(
        tx,
        lambda x, w: None if x is None else x + 2 * w,
        tx.init(START),
        START,
        is_leaf=lambda x: x is None,
    )
    expected = {
        "body": {"w": 3 * START["body"]["w"]},
        "head": {"w": None, "b": None},
    }
    chex.assert_trees_all_equal(optax.tree.get(doubled, "anchor"), expected)


@pytest.mark.parametrize("how", ["eager", "jit"])
@pytest.mark.parametrize("anchored", [{}, {"pretrained": {**OTHER, "head": None}}])
def test_parameters_and_state_may_be_donated_together(anchored, how):
    tx = steady(**anchored)
    params = jax.tree.map(jnp.copy, START)
    state = (jax.jit(tx.init) if how == "jit" else tx.init)(params)
    anchor = jax.tree.map(np.array, optax.tree.get(state, "anchor"))

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state):
        updates, state = tx.update(GRADS, state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(3):
        old, (params, state) = params, step(params, state)
        assert all(x.is_deleted() for x in jax.tree.leaves(old))
    chex.assert_trees_all_equal(optax.tree.get(state, "anchor"), anchor)


def test_what_init_was_given_may_be_deleted():
    params = jax.tree.map(jnp.copy, START)
    states = [
        l2_sp().init(params),
        jax.jit(l2_sp().init)(params),
        l2_sp(pretrained=params).init(START),
    ]
    jax.tree.map(lambda x: x.delete(), params)
    for state in states:
        chex.assert_trees_all_equal(state.anchor, START)


def test_a_large_anchor_is_no_constant_of_the_program():
    """400 MB, of which none is allocated: the one array is a row, seen often."""
    seen = np.broadcast_to(np.arange(10_000, dtype=np.float32), (10_000, 10_000))
    params = {"w": jax.ShapeDtypeStruct(seen.shape, jnp.float32)}
    state = jax.eval_shape(l2_sp().init, params)
    tx = l2_sp(pretrained={"w": seen})
    traced = jax.jit(tx.update).trace(params, state, params)
    assert sum(np.size(x) for x in traced.jaxpr.consts) < 1000
    assert len(traced.lower().as_text()) < 50_000


def test_a_live_nnx_state_needs_no_copy():
    """NNX updates in place, and a state shares the Variables of its model."""
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    live = nnx.state(model, nnx.Param)
    start = nnx.to_pure_dict(jax.tree.map(jnp.copy, live))
    for tx in (l2_sp(), l2_sp(pretrained=live), l2_sp(pretrained=model)):
        model.kernel[...] = start["kernel"]
        optimizer = nnx.Optimizer(
            model, optax.chain(tx, dtnh(0.5), optax.sgd(1.0)), wrt=nnx.Param
        )
        zeros = jax.tree.map(jnp.zeros_like, live)
        model.kernel[...] += 1.0
        for away in (0.5, 0.25):
            optimizer.update(model, zeros)
            np.testing.assert_allclose(model.kernel[...], start["kernel"] + away, 1e-6)
        np.testing.assert_array_equal(model.bias[...], start["bias"])


# None gradients, and leaves that are no arrays.


STEADY = {
    "granularity": "layer",
    "reference_decay": 0.9,
    "max_ratio": 1.0,
    "inner": optax.trace(0.9),
}


@pytest.mark.parametrize("rule", [{}, STEADY], ids=["paper", "steady"])
@pytest.mark.parametrize(
    "maker",
    [l2_sp(), l2(mask=True), mix_regularizers(l2_sp(), l2(mask=True))],
    ids=["l2_sp", "l2", "mix"],
)
def test_no_gradient_no_update(maker, rule):
    tx = optax.chain(maker, dtnh(**rule))
    params = {"a": {"w": 2 * jnp.ones(3)}, "b": {"w": jnp.ones(2)}, "c": jnp.ones(1)}

    def updates(g, params):
        state = tx.init(params)
        for _ in range(2):
            d, state = tx.update(g, state, jax.tree.map(lambda x: 3 * x, params))
        return d

    g = {"a": {"w": jnp.ones(3)}, "b": {"w": None}, "c": None}
    expected = updates({"a": g["a"]}, {"a": params["a"]})
    chex.assert_trees_all_close(updates(g, params), g | expected)


@pytest.mark.parametrize("maker", [l2_sp, l2])
def test_an_equinox_module_with_functions_in_it(maker):
    eqx = pytest.importorskip("equinox")

    class Net(eqx.Module):
        first: eqx.nn.Linear
        activation: object
        steps: int
        second: eqx.nn.Linear

        def __call__(self, x):
            return self.second(self.activation(self.first(x)))

    keys = jax.random.split(jax.random.key(0))
    net = Net(
        eqx.nn.Linear(2, 3, key=keys[0]), jnp.tanh, 3, eqx.nn.Linear(3, 1, key=keys[1])
    )
    arrays = eqx.filter(net, eqx.is_inexact_array)
    g = eqx.filter_grad(lambda net: net(jnp.ones(2)).sum())(net)
    tx = optax.chain(maker(), dtnh(**{**STEADY, "inner": optax.clip(1.0)}))
    state, expected_state = tx.init(net), tx.init(arrays)
    for _ in range(2):
        d, state = tx.update(g, state, net)
        expected, expected_state = tx.update(g, expected_state, arrays)
        chex.assert_trees_all_equal(d, expected)
    assert d.activation is None
    assert d.steps is None
    assert eqx.apply_updates(net, d).activation is jnp.tanh


PAIR = GradientPair(GRADS, GRADS)


def anchored(**kwargs):
    return lambda: l2_sp(**kwargs).init(START)


def decayed(mask):
    return lambda: l2(mask=mask).update(GRADS, (), PARAMS)


REFUSED = {
    "`alpha` must be non-negative and finite, got -1.0": lambda: l2_sp(-1.0),
    "`beta` must be non-negative and finite": lambda: l2_sp(1, -1),
    "`alpha` must be non-negative and finite, got -2.0": lambda: l2(-2.0),
    "got dict: pass it as `pretrained=`": lambda: l2_sp(START),
    "l2_sp needs the parameters": lambda: l2_sp().update(GRADS, l2_sp().init(START)),
    "l2 needs the parameters": lambda: l2().update(GRADS, ()),
    "l2_sp makes the pair: pass it the empirical gradient alone": lambda: (
        l2_sp().update(PAIR, l2_sp().init(START), PARAMS)
    ),
    "l2 makes the pair": lambda: l2().update(PAIR, (), PARAMS),
    "`pretrained` has no array for the parameter at ['head']['b']: make the key paths "
    "match, or put None there": anchored(pretrained={"body": OTHER["body"]}),
    "pretrained array has shape (3,) at ['body']['w'], parameter (2,)": anchored(
        pretrained={"body": jnp.ones(3), "head": None}
    ),
    "pretrained array has dtype int32 at ['body']['w']": anchored(
        pretrained={**OTHER, "body": jnp.ones(2, int)}
    ),
    "`new` must be booleans, got 1 at ['head']['b']": anchored(new={"head": 1}),
    "`new` has an entry at [0] that matches nothing": anchored(new=lambda _: ["head"]),
    "`mask` has no entry for the array at ['head']['b']": decayed({"body": True}),
    "`mask` must be booleans, got None at ['body']['w']": decayed(
        {"body": None, "head": True}
    ),
}


@pytest.mark.parametrize("says", REFUSED)
def test_refused_with_words(says):
    with pytest.raises((TypeError, ValueError), match=re.escape(says)):
        REFUSED[says]()
