"""The penalties: their formulas, their gradients, their edges."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from samplers import TEMPLATES, normal, stack, zeros

from dtnh_jax import feature_distillation, l2_sp, l2_sp_penalty, logit_distillation

PRETRAINED = {"body": {"w": jnp.array([1.0, 2.0])}, "head": None}
PARAMS = {
    "body": {"w": jnp.array([0.5, 4.0])},
    "head": {"w": jnp.array([[3.0]]), "b": jnp.array([-1.0])},
}
MAPS = {"early": (4, 3, 3, 5), "late": [(4, 7), None]}
CHANNELS = {"early": np.arange(1.0, 6.0), "late": [None, None]}
LOGITS = (4, 6)


def l2_sp_of(params, pretrained, alpha=0.3, beta=0.7):
    tx = l2_sp(alpha, beta, pretrained=pretrained)
    return tx.update(params, tx.init(params), params)[0].regularizer


@pytest.mark.parametrize(
    ("template", "dtype"),
    [
        ("a network", np.float32),
        ("a list", jnp.bfloat16),
        ("a network", np.complex64),
    ],
)
def test_l2_sp_gradient_is_that_of_the_transformation_bit_for_bit(template, dtype):
    shapes = TEMPLATES[template]
    params = normal(0, shapes, dtype)
    pretrained = normal(1, shapes, dtype)
    if template == "a network":
        pretrained["head"] = None

    @jax.jit
    def both(params):
        gradient = jax.grad(l2_sp_penalty)(params, pretrained, 0.3, 0.7)
        # JAX gives the conjugate of the direction of steepest ascent, which Optax
        # expects.
        return jax.tree.map(jnp.conj, gradient), l2_sp_of(params, pretrained)

    chex.assert_trees_all_equal(*both(params))


def test_l2_sp_value():
    """With traced weights, and the pretrained parameters in another container."""
    frozen = pytest.importorskip("flax").core.freeze(PRETRAINED)
    value = jax.jit(lambda a, b: l2_sp_penalty(PARAMS, frozen, a, b))(0.3, 0.7)
    expected = 0.3 / 2 * (0.5**2 + 2**2) + 0.7 / 2 * (3**2 + 1)
    np.testing.assert_allclose(value, expected, 1e-6)


def test_l2_sp_from_a_copy_of_an_nnx_state():
    """NNX updates in place, and a state shares the variables of its model.

    The copy is the recipe of the docstring. If buffers are donated, the arrays have to
    be copied too, not only the variables.
    """
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(3, 2, use_bias=False, rngs=nnx.Rngs(0))
    pretrained = jax.tree.map(jnp.copy, nnx.state(model, nnx.Param))
    optimizer = nnx.Optimizer(model, optax.sgd(0.5), wrt=nnx.Param)

    @nnx.jit(donate_argnums=(0, 1))
    def step(model, optimizer):
        gradient = nnx.grad(lambda model: jnp.sum(model.kernel[...]))(model)
        optimizer.update(model, gradient)

    for k in (1, 2):
        step(model, optimizer)
        penalty = l2_sp_penalty(nnx.state(model, nnx.Param), pretrained, 1.0)
        np.testing.assert_allclose(penalty, 6 * (0.5 * k) ** 2 / 2, 1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_feature_distillation_is_its_formula(dtype):
    student, teacher = normal(0, MAPS, dtype), normal(1, MAPS, dtype)
    # The sum over the channels of each map, with and without weights.
    early, late = (
        np.sum(np.abs(np.asarray(s - t)) ** 2, tuple(range(s.ndim - 1))) / 2 / 4
        for s, t in zip(*map(jax.tree.leaves, (student, teacher)), strict=True)
    )
    weighted = early @ CHANNELS["early"]
    for given, expected in ((None, early.sum()), (CHANNELS, weighted)):
        value = feature_distillation(student, teacher, given)
        np.testing.assert_allclose(value, expected + late.sum(), 1e-5)


# The valid positions of logits with that batch shape.
VALID = {
    (4,): np.array([True, False, True, True]),
    (2, 4): np.array([[True, True, False, False], [True, False, False, False]]),
}

compiled_logit_distillation = jax.jit(logit_distillation)
logit_value_and_grad = jax.jit(jax.value_and_grad(logit_distillation))


@pytest.mark.parametrize(
    ("shape", "temperature"), [((6,), 0.5), ((4, 6), 1.0), ((2, 3, 6), 4.0)]
)
def test_logit_distillation_is_its_formula(shape, temperature):
    student, teacher = normal(0, shape), normal(1, shape)
    p, q = (np.exp(np.asarray(x, np.float64) / temperature) for x in (teacher, student))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    expected = temperature**2 * np.mean(np.sum(p * np.log(p / q), -1))
    actual = compiled_logit_distillation(student, teacher, temperature)
    np.testing.assert_allclose(actual, expected, 1e-4)


@pytest.mark.parametrize(
    ("penalty", "template", "kwargs"),
    [
        (l2_sp_penalty, TEMPLATES["a network"], {"alpha": 0.3}),
        (feature_distillation, MAPS, {"channel_weights": CHANNELS}),
        (logit_distillation, LOGITS, {"temperature": 3.0}),
        (logit_distillation, LOGITS, {"mask": VALID[4,]}),
    ],
)
def test_gradients_against_finite_differences(penalty, template, kwargs):
    """Both modes of differentiation, and each within each, along three lines."""
    with jax.enable_x64(True):
        student, teacher, *directions = (
            normal(seed, template, np.float64) for seed in range(5)
        )

        @jax.vmap
        def along(direction):
            def line(t):
                moved = jax.tree.map(lambda s, v: s + t * v, student, direction)
                return penalty(moved, teacher, **kwargs)

            def slope(t):
                return jax.jvp(line, (t,), (jnp.ones_like(t),))[1]

            step, zero = 1e-4, jnp.zeros(())
            values, slopes = (
                jax.vmap(f)(step * jnp.array([-1.0, 0.0, 1.0])) for f in (line, slope)
            )
            back = jax.grad(line)
            _, forward_over_back = jax.jvp(back, (zero,), (jnp.ones(()),))
            first = (values[2] - values[0]) / (2 * step), slopes[1], back(zero)
            second = (
                (slopes[2] - slopes[0]) / (2 * step),
                jax.grad(slope)(zero),
                forward_over_back,
                jax.grad(back)(zero),
            )
            return first, second

        for differences, *derivatives in jax.jit(along)(stack(*directions)):
            assert np.all(differences != 0)
            for found in derivatives:
                np.testing.assert_allclose(found, differences, 1e-6)


@pytest.mark.parametrize(
    ("dtype", "scale"), [(np.float32, 1.0), (np.float32, 1e4), (jnp.bfloat16, 1.0)]
)
@pytest.mark.parametrize(
    ("penalty", "template"),
    [
        (lambda s, t: l2_sp_penalty(s, t, 1.0), TEMPLATES["a network"]),
        (feature_distillation, MAPS),
        (lambda s, t: logit_distillation(s, t, 3.0), (50, 1000)),
    ],
    ids=["l2_sp", "features", "logits"],
)
def test_gradient_is_zero_where_the_two_agree(penalty, template, scale, dtype):
    """One operation at a time: compiled, two softmaxes may be rounded apart."""
    student = jax.tree.map(
        lambda x: x * x.dtype.type(scale), normal(0, template, dtype)
    )
    value, gradient = jax.value_and_grad(penalty)(student, student)
    assert value == 0
    chex.assert_trees_all_equal(gradient, zeros(gradient))


@pytest.mark.parametrize(
    ("penalty", "template"),
    [(feature_distillation, MAPS), (logit_distillation, LOGITS)],
)
def test_no_gradient_reaches_the_teacher(penalty, template):
    gradient = jax.grad(penalty, argnums=1)(normal(0, template), normal(1, template))
    chex.assert_trees_all_equal(gradient, zeros(gradient))


def test_no_gradient_reaches_the_temperature():
    logits = normal(0, LOGITS), normal(1, LOGITS)
    assert jax.grad(logit_distillation, argnums=2)(*logits, 2.0) == 0


def test_large_logits_and_masked_classes():
    student = jnp.array([[1e4, 0.0, -1e4], [3e4, 3e4, 0.0]])
    teacher = jnp.array([[0.0, 1e4, -jnp.inf], [3e4, 3e4, -jnp.inf]])
    value, gradient = logit_value_and_grad(student, teacher)
    np.testing.assert_allclose(value, 1e4 / 2)
    np.testing.assert_allclose(gradient, [[0.5, -0.5, 0], [0, 0, 0]], atol=1e-7)


@pytest.mark.parametrize("batch", [(4,), (2, 4)])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float64])
def test_mask_is_the_loss_of_the_valid_positions_alone(dtype, batch):
    rtol = {jnp.bfloat16: 2**-7, np.float64: 1e-12}[dtype]
    mask = VALID[batch]
    with jax.enable_x64(dtype == np.float64):
        student, teacher = (normal(seed, (*batch, 6), dtype) for seed in (0, 1))
        value, gradient = logit_value_and_grad(student, teacher, 3.0, mask)
        expected, wanted = logit_value_and_grad(student[mask], teacher[mask], 3.0)
        assert value.dtype == (np.float64 if dtype == np.float64 else np.float32)
        assert gradient.dtype == dtype
        np.testing.assert_allclose(value, expected, min(rtol, 1e-5))
        gradient, wanted = (np.asarray(x, np.float64) for x in (gradient, wanted))
        np.testing.assert_allclose(gradient[mask], wanted, rtol, 1e-2 * rtol)
        np.testing.assert_array_equal(gradient[~mask], 0)


@pytest.mark.parametrize("logits", ["student", "teacher", "both"])
@pytest.mark.parametrize("fill", [np.nan, -np.inf])
def test_what_is_masked_changes_no_bit(fill, logits):
    mask = VALID[2, 4]
    clean = {"student": normal(0, (2, 4, 6)), "teacher": normal(1, (2, 4, 6))}
    filled = {
        name: jnp.where(mask[..., None], x, fill) if logits in (name, "both") else x
        for name, x in clean.items()
    }
    expected, wanted = logit_value_and_grad(*clean.values(), 2.0, mask)
    value, gradient = logit_value_and_grad(*filled.values(), 2.0, mask)
    assert np.isfinite(value)
    assert value == expected
    np.testing.assert_array_equal(gradient, wanted)
    np.testing.assert_array_equal(gradient[~mask], 0)
    assert np.all(gradient[mask] != 0)


@pytest.mark.parametrize("mask", [VALID[4,], np.zeros(4, bool)])
def test_masked_rows_of_minus_infinity_are_quiet_under_debug_nans(mask):
    logits = jnp.where(mask[:, None], normal(0, LOGITS), -jnp.inf)
    penalty = jax.value_and_grad(logit_distillation)
    with jax.debug_nans(True):
        value, gradient = penalty(logits, logits, mask=mask)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize(("shape", "fill"), [((6,), np.nan), ((0, 6), 0.0)])
def test_nothing_valid_gives_zero(fill, shape):
    student, teacher = normal(0, shape) + fill, normal(1, shape) + fill
    arguments = student, teacher, 1.0, np.zeros(shape[:-1], bool)
    value, gradient = logit_value_and_grad(*arguments)
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros(shape))


@pytest.mark.parametrize("classes", [7, 49])
def test_masked_positions_add_no_rounding(classes):
    """Compiled, even two equal rows may be rounded apart, at these sizes on a CPU.

    The only valid row has all its probability in one class, so its loss is exact.
    """
    certain = jnp.full((3, classes), -jnp.inf).at[:, 0].set(0)
    for valid in np.eye(3, dtype=bool):
        logits = jnp.where(valid[:, None], certain, jnp.nan)
        assert compiled_logit_distillation(logits, logits, 1.0, valid) == 0


@pytest.mark.parametrize("row", [[-np.inf] * 6, [np.nan] + [0.0] * 5])
@pytest.mark.parametrize("logits", ["student", "teacher"])
def test_a_row_that_is_no_distribution_gives_nan_unless_masked(logits, row):
    """The gradient of the other rows is unaffected."""
    clean = {"student": normal(0, LOGITS), "teacher": normal(1, LOGITS)}
    rows = clean | {logits: clean[logits].at[1].set(jnp.array(row))}
    value, gradient = logit_value_and_grad(*rows.values())
    _, expected = logit_value_and_grad(*clean.values())
    assert np.isnan(value)
    assert np.isnan(gradient[1]).all()
    others = np.array([0, 2, 3])
    np.testing.assert_allclose(gradient[others], expected[others], 1e-5)
    value, gradient = logit_value_and_grad(*rows.values(), 1.0, VALID[4,])
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_sums_are_taken_in_float32():
    """Of 2^12 numbers in bfloat16, whose sum alone would stop at 2^8."""
    ones = jnp.ones((1, 2**12), jnp.bfloat16)
    assert l2_sp_penalty(ones, 0 * ones, 2.0) == 2**12
    assert feature_distillation(ones, 0 * ones) == 2**11
    uniform = jnp.zeros((2, 4), jnp.float16)
    assert logit_distillation(uniform, uniform + 1).dtype == jnp.float32


def test_mixed_precision_and_float64():
    single = normal(0, MAPS)
    half = jax.tree.map(lambda x: x.astype(jnp.float16), single)
    distance = feature_distillation(half, single)
    assert distance.dtype == jnp.float32
    assert 0 < distance < 1e-5
    with jax.enable_x64(True):
        double = jax.tree.map(lambda x: x.astype(jnp.float64), single)
        assert feature_distillation(single, double).dtype == jnp.float64
        assert l2_sp_penalty(double, single, 1.0).dtype == jnp.float64


F, T = normal(0, MAPS), normal(1, MAPS)
S = normal(0, LOGITS)
ROW = jnp.ones(3)
OTHER_SHAPE = {**T, "late": [jnp.ones((4, 6)), None]}


def logits(student=S, teacher=S, temperature=1.0, mask=None):
    return lambda: logit_distillation(student, teacher, temperature, mask)


REFUSED = {
    "student's feature map has shape (4, 7) at ['late'][0], teacher's feature map "
    "(4, 6)": lambda: feature_distillation(F, OTHER_SHAPE),
    "at ['late'], teacher's feature map nothing": lambda: feature_distillation(
        F, {"early": T["early"]}
    ),
    "student's feature map has nothing at ['late']": lambda: feature_distillation(
        {"early": F["early"]}, T
    ),
    "student's feature map has dtype int32 at the root": lambda: feature_distillation(
        F["early"].astype(int), F["early"]
    ),
    "[batch, ..., channels], got (3,) at ['a']": lambda: feature_distillation(
        {"a": ROW}, {"a": ROW}
    ),
    "`channel_weights` has shape (4, 6) at ['early'], where the feature map has shape "
    "(4, 3, 3, 5); it must be (5,)": lambda: feature_distillation(
        F, T, {"early": S, "late": [None, None]}
    ),
    "`channel_weights` has shape (5,) at ['late'][0]": lambda: feature_distillation(
        F, T, jnp.ones(5)
    ),
    "same shape [..., classes], got (4, 6) and (2, 6)": logits(teacher=S[:2]),
    "same shape [..., classes], got () and ()": logits(S[0, 0], S[0, 0]),
    "teacher's logits must be floating-point, got int32": logits(teacher=S.astype(int)),
    "`temperature` must be positive and finite, got 0.0": logits(temperature=0.0),
    "`temperature` must be a real number, got '2'": logits(temperature="2"),
    "`mask` must be boolean, got dtype int32": logits(mask=jnp.ones(4, int)),
    "`mask` must have shape (4,), the logits' shape without the classes, got "
    "(4, 6)": logits(mask=jnp.ones(LOGITS, bool)),
    "`mask` must have shape (4,), the logits' shape without the classes, got "
    "(1,)": logits(mask=jnp.ones(1, bool)),
    "`alpha` must be non-negative and finite": lambda: l2_sp_penalty(
        PARAMS, PRETRAINED, -1.0
    ),
    "`beta` must be non-negative and finite": lambda: l2_sp_penalty(
        PARAMS, PRETRAINED, 1, -1.0
    ),
    "`pretrained` has no array for the parameter at ['body']['w']": lambda: (
        l2_sp_penalty(PARAMS, {"head": None}, 1.0)
    ),
}


@pytest.mark.parametrize("says", REFUSED)
def test_refused_with_words(says):
    with pytest.raises((TypeError, ValueError), match=re.escape(says)):
        REFUSED[says]()
