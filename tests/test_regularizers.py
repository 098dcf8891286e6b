"""``l2_sp``: its gradient, new heads, containers, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dtnh_jax import GradientPair, dtnh, l2_sp

PRETRAINED = {"body": {"w": jnp.array([1.0, 2.0])}, "head": None}
PARAMS = {
    "body": {"w": jnp.array([0.5, 4.0])},
    "head": {"w": jnp.array([[3.0]]), "b": jnp.array([-1.0])},
}
GRADS = jax.tree.map(jnp.ones_like, PARAMS)


def penalty(params, alpha, beta):
    """The published formula, for autodiff."""
    distance = params["body"]["w"] - PRETRAINED["body"]["w"]
    new = sum(jnp.sum(x**2) for x in jax.tree.leaves(params["head"]))
    return alpha / 2 * jnp.sum(distance**2) + beta / 2 * new


def pair(pretrained=PRETRAINED, params=PARAMS, alpha=0.3, beta=0.7):
    tx = l2_sp(pretrained, alpha, beta)
    return tx.update(GRADS, tx.init(params), params)[0]


def test_gradient_is_that_of_the_penalty():
    expected = jax.grad(penalty)(PARAMS, 0.3, 0.7)
    jax.tree.map(np.testing.assert_allclose, pair(), GradientPair(GRADS, expected))


def test_new_arrays_are_left_alone_by_default():
    r = l2_sp(PRETRAINED, 0.3).update(GRADS, optax.EmptyState(), PARAMS)[0].regularizer
    assert all((x == 0).all() for x in jax.tree.leaves(r["head"]))


def test_gradient_at_the_pretrained_point_is_zero():
    start = {**PARAMS, "body": PRETRAINED["body"]}
    np.testing.assert_array_equal(pair(params=start).regularizer["body"]["w"], [0, 0])


def test_none_may_stand_for_one_array_or_for_a_subtree():
    one_by_one = {**PRETRAINED, "head": {"w": None, "b": None}}
    jax.tree.map(np.testing.assert_array_equal, pair(), pair(one_by_one))


def test_bfloat16_parameters_keep_their_dtype_and_the_difference_its_precision():
    w0 = {"w": jnp.array([1.0], jnp.float32)}
    w = {"w": jnp.array([1.0078125], jnp.bfloat16)}  # 1 + 2^-7, one step of bfloat16
    tx = l2_sp({"w": w0["w"] + 2**-9}, 1.0)
    r = tx.update(w, tx.init(w), w)[0].regularizer["w"]
    assert r.dtype == jnp.bfloat16
    np.testing.assert_array_equal(r.astype(jnp.float32), [2**-7 - 2**-9])


def test_containers_may_differ():
    flax = pytest.importorskip("flax")
    jax.tree.map(
        np.testing.assert_array_equal, pair(flax.core.freeze(PRETRAINED)), pair()
    )


def test_nnx_optimizer_takes_it_like_any_other():
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    pretrained = jax.tree.map(jnp.copy, nnx.state(model, nnx.Param))
    start = jax.tree.map(jnp.copy, nnx.to_pure_dict(pretrained))
    model.kernel[...] += 1.0
    tx = optax.chain(l2_sp(pretrained, alpha=1.0), dtnh(0.5), optax.sgd(1.0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    grads = jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param))
    optimizer.update(model, grads)
    np.testing.assert_allclose(model.kernel[...], start["kernel"] + 0.5, 1e-6)
    np.testing.assert_array_equal(model.bias[...], start["bias"])


def test_under_jit_and_inside_partition():
    tx = optax.partition(
        {
            "body": optax.chain(l2_sp(PRETRAINED, 0.3), dtnh(), optax.sgd(1.0)),
            "head": optax.sgd(1.0),
        },
        {"body": "body", "head": "head"},
    )
    updates, _ = jax.jit(tx.update)(GRADS, tx.init(PARAMS), PARAMS)
    g, r = np.ones(2), 0.3 * np.array([-0.5, 2.0])
    assert g @ r > 0
    np.testing.assert_allclose(updates["body"]["w"], -(g + r), 1e-6)
    np.testing.assert_array_equal(updates["head"]["b"], [-1.0])


@pytest.mark.parametrize(
    ("act", "error", "says"),
    [
        (lambda: l2_sp(PRETRAINED, -1.0), ValueError, "`alpha` must not be negative"),
        (lambda: l2_sp(PRETRAINED, 1, -1), ValueError, "`beta` must not be negative"),
        (
            lambda: l2_sp(PRETRAINED, 1.0).update(GRADS, optax.EmptyState()),
            ValueError,
            "needs the parameters",
        ),
        (
            lambda: l2_sp(PRETRAINED, 1.0).update(
                GradientPair(GRADS, GRADS), optax.EmptyState(), PARAMS
            ),
            TypeError,
            "not a GradientPair",
        ),
        (
            lambda: pair({"body": PRETRAINED["body"]}),
            ValueError,
            r"parameter at \['head'\]\['b'\], but for \['body'\]\['w'\]; put None",
        ),
        (
            lambda: pair({"body": {"w": jnp.ones(3)}, "head": None}),
            ValueError,
            r"shape \(3,\) at \['body'\]\['w'\], the parameter \(2,\)",
        ),
    ],
)
def test_refused_with_words(act, error, says):
    with pytest.raises(error, match=says):
        act()
