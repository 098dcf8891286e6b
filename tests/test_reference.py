"""``reference_decay``, ``inner`` and ``max_ratio`` together, against a NumPy oracle."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import properties as check
import pytest
from samplers import G, R, normal, update, zeros

from dtnh_jax import GradientPair, conflict_report, dtnh

pytestmark = pytest.mark.usefixtures("lenient_promotion")  # for Optax's Adam

DECAY = 0.8
EPS = check.epsilon(np.float32)
WEIGHT = 0.7


def momentum(gradients):
    """``optax.trace(0.9)`` in float64."""
    for t in range(1, len(gradients) + 1):
        yield sum(0.9 ** (t - 1 - i) * g for i, g in enumerate(gradients[:t]))


def adam(gradients):
    """``optax.scale_by_adam()`` in float64."""
    for t in range(1, len(gradients) + 1):
        first, second = (
            np.tensordot(weights(t, b), [g**p for g in gradients[:t]], 1)
            for p, b in ((1, 0.9), (2, 0.999))
        )
        yield first / (np.sqrt(second) + 1e-8)


def weights(count, decay):
    """Of a bias-corrected average, by its definition."""
    shares = decay ** np.arange(count - 1, -1, -1.0)
    return shares / shares.sum()


INNER = {
    "none": (None, list),
    "momentum": (optax.trace(0.9), momentum),
    "adam": (optax.scale_by_adam(), adam),
}


def expected(gradients, regularizers, inner, reference, decay, kappa):
    """Of one group, at every step: d, r', u, λr, and which of the caps were reached.

    Each sum is written out anew at every step.
    """
    us = list(INNER[inner][1](gradients))
    judges = {"gradient": gradients, "update": us}[reference]
    for t, (r, u) in enumerate(zip(regularizers, us, strict=True)):
        r = WEIGHT * r
        if decay is None:
            m = judges[t]
        elif t == 0:
            yield u, np.zeros_like(u), u, r, set()
            continue
        else:
            m = np.tensordot(weights(t, decay), judges[:t], 1)
        if kappa is None:
            whole = check.project(m, r)
            yield u + whole, whole, u, r, set()
            continue
        d, kept = check.step(u, m, r, kappa)
        before = check.project(m, check.shortened(r, check.norm(u)))
        reached = {
            "before": check.norm(r) > check.norm(u),
            "after": check.norm(kept) < check.norm(before),
            "step": check.norm(d) < check.norm(u + kept),
        }
        yield d, kept, u, r, set(reached.items())


CASES = [
    ("layer", "none", "gradient", None, 0.4),
    ("layer", "none", "gradient", DECAY, None),
    ("layer", "momentum", "gradient", None, 0.4),
    ("layer", "momentum", "gradient", DECAY, 0.4),
    ("layer", "momentum", "update", None, None),
    ("layer", "adam", "gradient", None, None),
    ("layer", "adam", "gradient", DECAY, None),
    ("layer", "adam", "update", None, 0.4),
    ("layer", "adam", "update", DECAY, None),
    ("layer", "adam", "update", DECAY, 0.4),
    ("global", "momentum", "update", DECAY, 0.4),
    ("leaf", "momentum", "update", DECAY, 0.4),
]


@pytest.mark.parametrize(("granularity", "inner", "reference", "decay", "kappa"), CASES)
def test_every_step_is_as_defined(granularity, inner, reference, decay, kappa):
    tx = dtnh(
        WEIGHT,
        granularity=granularity,
        reference=reference,
        reference_decay=decay,
        max_ratio=kappa,
        inner=INNER[inner][0],
    )
    # Adam's correction, 1 - 0.999^t, has few digits in float32.
    eps = EPS if inner != "adam" else 1e-5
    # Lengths change, so that some steps are capped.
    lengths = 3.0 ** (np.arange(8) % 4 - 1)
    steps = [
        (normal(2 * t), jax.tree.map(lambda x, k=k: k * x, normal(t)))
        for t, k in enumerate(lengths.tolist(), start=1)
    ]
    by_step = [list(check.groups(granularity, g, r)) for g, r in steps]
    oracles = [
        list(
            expected(
                *map(list, zip(*group, strict=True)), inner, reference, decay, kappa
            )
        )
        for group in zip(*by_step, strict=True)
    ]
    state, update_fn = tx.init(steps[0][0]), jax.jit(tx.update)
    for t, (g, r) in enumerate(steps):
        d, state = update_fn(GradientPair(g, r), state)
        report = conflict_report(state).values()
        for (d_,), values, oracle in zip(
            check.groups(granularity, d), report, oracles, strict=True
        ):
            wanted, kept, u, whole, _ = oracle[t]
            size = check.norm(u) + check.norm(whole)
            # Where r opposes m outright, rounding hides how little is left of it.
            opposed = kappa is not None and check.norm(kept) < 1e-3 * check.norm(u)
            check.assert_close(d_, wanted, 0.01 if opposed else eps, size=size)
            hidden = 6 * np.sqrt(EPS) * check.norm(whole)
            pull, rounding = check.norm(kept) / check.norm(u), hidden / check.norm(u)
            np.testing.assert_allclose(values["pull"], pull, 32 * eps, rounding)
            removed = check.norm(whole - kept) / check.norm(whole)
            np.testing.assert_allclose(values["removed"], removed, 32 * eps, 32 * eps)
    reached = {case for oracle in oracles for *_, cases in oracle for case in cases}
    wanted = set(itertools.product(("before", "after"), (True, False)))
    wanted |= {("step", True)}
    assert reached >= wanted if kappa is not None else not reached


def test_the_first_step_has_no_reference_and_the_second_has_the_first_gradient():
    tx = dtnh(reference_decay=0.99)
    d, state = update(tx)
    chex.assert_trees_all_equal(d, G)
    report = {"cosine": 0, "conflict": False, "removed": 1, "pull": 0, "rate": 0}
    assert conflict_report(state)["global"] == report
    d, _ = tx.update(GradientPair(R, R), state)
    kept, _ = update(dtnh(), G, R)
    expected_ = jax.tree.map(lambda d, g, r: d - g + r, kept, G, R)
    chex.assert_trees_all_close(d, expected_, rtol=1e-5)


def test_non_finite_inputs_propagate_in_the_first_step_too():
    for bad in (np.nan, np.inf):
        broken = {**R, "a": R["a"].at[0].set(bad)}
        for pair in ((broken, R), (G, broken)):
            d, state = update(dtnh(reference_decay=0.9, max_ratio=1.0), *pair)
            assert not np.isfinite(d["a"]).all()
    assert np.isnan(state.conflict.pull).all()


@pytest.mark.parametrize("options", [{"reference_decay": 0.9}, {"max_ratio": 1.0}])
def test_nothing_is_removed_of_a_regularizer_that_is_zero(options):
    assert update(dtnh(**options), G, zeros(R))[1].conflict.removed == 0
    opposed = jax.tree.map(jnp.negative, G)
    removed = update(dtnh(**options), G, opposed)[1].conflict.removed
    np.testing.assert_allclose(removed, 1, rtol=1e-6)


def test_pull_without_an_update_or_without_a_regularizer():
    zero = zeros(G)
    step = jax.jit(lambda g, r: update(dtnh(), g, r)[1].conflict.pull)
    assert step(zero, R) == np.inf
    assert step(G, zero) == step(zero, zero) == 0
    frozen = dtnh(inner=optax.set_to_zero(), max_ratio=1.0)
    assert update(frozen)[1].conflict.pull == 0
    lagged = dtnh(reference_decay=0.9)
    _, state = update(lagged, zero, R)
    assert state.conflict.pull == 0
    assert lagged.update(GradientPair(zero, R), state)[1].conflict.pull == np.inf


@pytest.mark.parametrize("inner", INNER)
def test_what_is_kept_is_the_same_on_every_batch(inner):
    """G9: the judge does not depend on this step's batch."""
    transform = INNER[inner][0] or optax.identity()
    rng = np.random.default_rng(0)
    past, fresh = rng.standard_normal((6, 12)), 30 * rng.standard_normal((100, 12))
    r = rng.standard_normal(12) - past.sum(axis=0)
    with jax.enable_x64(True):
        tx = dtnh(WEIGHT, reference_decay=DECAY, inner=transform)
        state, update = tx.init(r), jax.jit(tx.update)
        for g in past:
            _, state = update(GradientPair(g, r), state, r)

        def kept(g):
            d, _ = tx.update(GradientPair(g, r), state, r)
            return d - transform.update(g, state.inner, r)[0]

        rest = np.asarray(jax.jit(jax.vmap(kept))(fresh))
    assert np.ptp(rest, axis=0).max() < 1e-9
    assert np.linalg.norm(rest - WEIGHT * r, axis=1).min() > 1


@pytest.mark.parametrize(
    ("given", "chosen", "stored"),
    [
        (jnp.bfloat16, None, jnp.float32),
        (jnp.complex64, None, jnp.complex64),
        (jnp.complex64, jnp.bfloat16, jnp.complex64),
        (jnp.bfloat16, jnp.bfloat16, jnp.bfloat16),
    ],
)
def test_the_dtype_of_the_average(given, chosen, stored):
    g = {"w": jnp.ones(3, given)}
    tx = dtnh(reference_decay=0.9, reference_dtype=chosen)
    state = tx.init(g)
    assert state.reference["w"].dtype == stored
    d, new = tx.update(GradientPair(g, g), state)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, new)
    assert d["w"].dtype == given


def test_a_bfloat16_gradient_too_small_to_move_a_bfloat16_average_still_counts():
    tx = dtnh(reference_decay=0.999)
    g = {"w": jnp.ones(1, jnp.bfloat16)}
    state, update = tx.init(g), jax.jit(tx.update)
    for _ in range(50):
        _, state = update(GradientPair(g, g), state)
    np.testing.assert_allclose(state.reference["w"], [1 - 0.999**50], 1e-4)
