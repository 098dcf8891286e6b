"""``nnx_pair_value_and_grad``: NNX modules, updated once and in place."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dtnh_jax import GradientPair, dtnh, feature_distillation, logit_distillation

nnx = pytest.importorskip("flax.nnx")

from dtnh_jax.nnx import nnx_pair_value_and_grad  # noqa: E402

X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)
Y = jnp.arange(8) % 2

# Flax called it `pure` until 0.12.5.
as_pure = getattr(nnx, "as_pure", None) or nnx.pure


class Model(nnx.Module):
    """With all that a forward pass may change: statistics, a random stream, a count."""

    def __init__(self, seed):
        rngs = nnx.Rngs(seed)
        self.body = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(4, 2, rngs=rngs)
        self.calls = nnx.Variable(jnp.zeros((), jnp.int32))

    def __call__(self, x):
        self.calls[...] += 1
        features = self.dropout(jnp.tanh(self.norm(self.body(x))))
        return self.head(features), features


def losses(model, x, labels, target):
    logits, features = model(x)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return loss, feature_distillation(features, target)


ARGS = X, Y, jnp.ones((8, 4))


def pure(state):
    """Arrays by path, of a state or of a module's; of random keys their numbers."""
    state = state if isinstance(state, nnx.State) else nnx.state(state)
    return {
        path: jax.random.key_data(x)
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        else x
        for path, x in nnx.to_flat_state(as_pure(state))
    }


def same(actual, expected, rtol=1e-6):
    chex.assert_trees_all_close(pure(actual), pure(expected), rtol=rtol, atol=1e-7)


def only(i):
    """The loss, or the penalty, alone."""
    return lambda *args: losses(*args)[i]


def by_nnx(model, *args, argnums=0):
    """The same from two calls of ``nnx.value_and_grad``, each on a copy of the model.

    Returns the copy of the model too, on which ``losses`` was called once.
    """
    found = []
    for i in (0, 1):
        copy = nnx.clone(model)
        both = nnx.jit(nnx.value_and_grad(only(i), argnums=argnums))
        found.append(both(copy, *args))
    values, gradients = zip(*found, strict=True)
    return values, GradientPair(*gradients), copy


def test_as_two_calls_but_updated_once():
    model = Model(0)
    expected_values, expected, after = by_nnx(model, *ARGS)
    differentiate = nnx.jit(nnx_pair_value_and_grad(losses))
    values, pair = differentiate(model, *ARGS)
    np.testing.assert_allclose(values, expected_values, 1e-5)
    for half, other in zip(pair, expected, strict=True):
        assert isinstance(half, nnx.State)
        same(half, other, rtol=1e-5)
    same(model, after)
    assert model.calls[...] == 1
    assert model.dropout.rngs.count[...] == 1
    assert (model.norm.mean[...] != 0).all()
    differentiate(model, *ARGS)
    assert model.calls[...] == 2


def test_both_gradients_see_one_mask():
    """And their zeros are where this mask is zero."""

    def dropped(model, x):
        kept = model.dropout(model.body(x))
        return (jnp.sum(kept), jnp.sum(kept * kept)), kept

    (_, kept), pair = nnx_pair_value_and_grad(dropped, has_aux=True)(Model(0), X[:1])
    dead = kept[0] == 0
    assert 0 < dead.sum() < 4
    for half in pair:
        np.testing.assert_array_equal(half["body"]["bias"][...] == 0, dead)


def test_the_pair_goes_into_the_optimizer():
    model = Model(0)
    optimizer = nnx.Optimizer(
        model, optax.chain(dtnh(2.0), optax.sgd(0.1)), wrt=nnx.Param
    )
    start = as_pure(nnx.state(nnx.clone(model), nnx.Param))
    _, (g, r), _ = by_nnx(model, *ARGS)
    pair = GradientPair(as_pure(g), as_pure(r))
    d, _ = jax.jit(dtnh(2.0).update)(pair, dtnh(2.0).init(start))

    @nnx.jit
    def step(model, optimizer):
        values, pair = nnx_pair_value_and_grad(losses)(model, *ARGS)
        optimizer.update(model, pair.empirical, regularizer_grads=pair.regularizer)
        return values

    step(model, optimizer)
    moved = jax.tree.map(
        lambda w, w0: (w0 - w) / 0.1, as_pure(nnx.state(model, nnx.Param)), start
    )
    chex.assert_trees_all_close(moved, d, rtol=1e-3, atol=1e-5)
    step(model, optimizer)
    assert model.calls[...] == 2


def test_a_teacher_among_the_arguments_is_updated_too_but_not_differentiated():
    def distilled(student, teachers, x, *, scale):
        logits, _ = student(x)
        targets, _ = teachers["one"](x)
        return scale * jnp.sum(logits), logit_distillation(logits, targets)

    student, teacher = Model(0), Model(1)
    (loss, _), pair = nnx_pair_value_and_grad(distilled)(
        student, {"one": teacher, "none": None}, X, scale=0.0
    )
    assert loss == 0
    assert student.calls[...] == teacher.calls[...] == 1
    assert pure(pair.empirical).keys() == pure(nnx.state(student, nnx.Param)).keys()


KERNELS = nnx.All(nnx.Param, nnx.PathContains("kernel"))


@pytest.mark.parametrize(
    ("argnums", "kwargs"),
    [
        (0, {"wrt": KERNELS}),
        (nnx.DiffState(0, KERNELS), {"wrt": nnx.BatchStat}),
    ],
)
def test_filters(argnums, kwargs):
    _, pair = nnx_pair_value_and_grad(losses, argnums, **kwargs)(Model(0), *ARGS)
    _, expected, _ = by_nnx(Model(0), *ARGS, argnums=nnx.DiffState(0, KERNELS))
    assert len(pure(pair.empirical)) == 2
    for half, other in zip(pair, expected, strict=True):
        same(half, other, rtol=1e-5)


def test_several_arguments_modules_and_arrays():
    model = Model(0)
    both = nnx_pair_value_and_grad(losses, (1, nnx.DiffState(0, nnx.Param), 3))
    _, pair = both(model, *ARGS)
    for i, half in enumerate(pair):
        expected = nnx.grad(only(i), argnums=(1, 0, 3))(Model(0), *ARGS)
        assert isinstance(half, tuple)
        np.testing.assert_allclose(half[0], expected[0], 1e-5, 1e-6)
        same(half[1], expected[1], rtol=1e-5)
        np.testing.assert_allclose(half[2], expected[2], 1e-5, 1e-6)
    assert isinstance(nnx_pair_value_and_grad(losses, [0])(model, *ARGS)[1][0], tuple)


def test_a_variable_that_two_arguments_share():
    """It belongs to the one that is differentiated, wherever it is."""

    def tied(model, kernel):
        return jnp.sum(model.body(X)), jnp.sum(kernel[...] ** 2)

    for argnum in (0, 1):
        model = Model(0)
        _, pair = nnx_pair_value_and_grad(tied, argnum)(model, model.body.kernel)
        gradient = (
            pair.regularizer["body"]["kernel"] if argnum == 0 else pair.regularizer
        )
        np.testing.assert_allclose(gradient[...], 2 * model.body.kernel[...], 1e-6)
        assert model.body.kernel[...].shape == (3, 4)


def test_what_the_forward_pass_adds_to_the_module_stays():
    def remembering(model, x):
        logits, features = model(x)
        model.last = nnx.Intermediate(features)
        return jnp.sum(logits), jnp.sum(features)

    model = Model(0)
    (_, penalty), _ = nnx_pair_value_and_grad(remembering)(model, X)
    np.testing.assert_allclose(jnp.sum(model.last[...]), penalty, 1e-5)


def call(*args, fun=losses, **kwargs):
    return nnx_pair_value_and_grad(fun, *args, **kwargs)(Model(0), *ARGS)


REFUSED = {
    "must return (loss, penalty) with has_aux=False, where loss and penalty": lambda: (
        call(fun=lambda model, *_: jnp.sum(model.body.kernel[...]))
    ),
    "must return ((loss, penalty), aux)": lambda: call(has_aux=True),
    "argument 0 at ['dropout']['rngs']['count'].value is not floating-point": lambda: (
        call(wrt=nnx.RngState)
    ),
    "argument 2 is not floating-point": lambda: call(2),
    "needs at least 5 positional": lambda: call(4),
    "names an argument twice: (0, 0)": lambda: call((0, 0)),
    "names an argument twice: (0, -4)": lambda: call((0, -4)),
    "integers, got [0.5]": lambda: call(0.5),
    "integers, got []": lambda: call(()),
}


@pytest.mark.parametrize("says", REFUSED)
def test_refused_with_words(says):
    with pytest.raises((TypeError, ValueError), match=re.escape(says)):
        REFUSED[says]()
