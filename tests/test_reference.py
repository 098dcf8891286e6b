"""``reference_decay``: the moving average as reference, against a NumPy oracle."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import properties as check
import pytest
from test_transform import G, R, network, update
from trees import close

from dtnh_jax import GradientPair, dtnh, project_conflict

DECAY = 0.8


def oracle(gradients):
    """Bias-corrected averages in float64, by the weights they are defined by."""
    for t in range(1, len(gradients) + 1):
        weights = DECAY ** np.arange(t - 1, -1, -1.0)
        weights /= weights.sum()
        yield sum(w * g for w, g in zip(weights, gradients[:t], strict=True))


@pytest.mark.parametrize("granularity", ["global", "layer", "leaf"])
def test_projection_is_against_the_average(granularity):
    tx = dtnh(0.5, granularity=granularity, reference_decay=DECAY)
    steps = [(network(2 * i), network(2 * i + 1)) for i in range(6)]
    flat = [check.vectors(g)[0] for g, _ in steps]
    state, update_fn = tx.init(steps[0][0]), jax.jit(tx.update)
    for (g, r), expected in zip(steps, oracle(flat), strict=True):
        d, state = update_fn(GradientPair(g, r), state)
        correction = 1 - DECAY ** float(state.count)
        average = optax.tree.scale(1 / correction, state.reference)
        check.assert_close(check.vectors(average)[0], expected, 1e-6)
        kept = project_conflict(r, average, granularity=granularity)
        close(d, jax.tree.map(lambda a, b: a + 0.5 * b, g, kept), 1e-4, 1e-7)


def test_the_first_step_is_as_without_it():
    close(update(dtnh(reference_decay=0.99))[0], update(dtnh())[0], 1e-5, 1e-7)


def test_the_cap_is_measured_against_the_average():
    tx = dtnh(100.0, on_conflict="ignore", max_ratio=0.5, reference_decay=DECAY)
    state = tx.init(G)
    _, state = tx.update(GradientPair(G, R), state)
    small = jax.tree.map(lambda x: 1e-3 * x, G)
    d, _ = tx.update(GradientPair(small, R), state)
    share = (DECAY * 1 + 1e-3) / (DECAY + 1)
    rest = optax.tree.norm(optax.tree.sub(d, small))
    np.testing.assert_allclose(rest, 0.5 * share * optax.tree.norm(G), 1e-4)


@pytest.mark.parametrize(
    ("given", "chosen", "stored"),
    [
        (jnp.bfloat16, None, jnp.float32),
        (jnp.float16, None, jnp.float32),
        (jnp.float32, None, jnp.float32),
        (jnp.complex64, None, jnp.complex64),
        (jnp.bfloat16, jnp.bfloat16, jnp.bfloat16),
    ],
)
def test_stored_in_float32_unless_told_otherwise(given, chosen, stored):
    g = {"w": jnp.ones(3, given)}
    tx = dtnh(reference_decay=0.9, reference_dtype=chosen)
    state = tx.init(g)
    assert state.reference["w"].dtype == stored
    d, state = jax.jit(tx.update)(GradientPair(g, g), state)
    assert state.reference["w"].dtype == stored
    assert d["w"].dtype == given


def test_a_bfloat16_gradient_too_small_to_move_a_bfloat16_average_still_counts():
    tx = dtnh(reference_decay=0.999)
    g = {"w": jnp.ones(1, jnp.bfloat16)}
    state = tx.init(g)
    for _ in range(50):
        _, state = tx.update(GradientPair(g, g), state)
    np.testing.assert_allclose(state.reference["w"], [1 - 0.999**50], 1e-4)


def test_it_is_a_moment_that_optax_maps_over():
    tx = dtnh(reference_decay=0.9)
    doubled = optax.tree.map_params(tx, lambda x: x + 1, tx.init(G))
    close(doubled.reference, jax.tree.map(jnp.ones_like, G), 2e-6, 1e-7)


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1, 1.5, np.nan])
def test_decay_out_of_range(decay):
    with pytest.raises(ValueError, match="`reference_decay` must be above 0 and below"):
        dtnh(reference_decay=decay)
