"""Long runs: nothing is compiled again, drifts or wraps round."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dtnh_jax import (
    GradientPair,
    conflict_report,
    dtnh,
    dtnh_adamw,
    l2,
    l2_sp,
    mix_regularizers,
    multi_steps,
    skip_nonfinite,
    skip_report,
)

STEPS = 100_000
CHUNK = 1_000
SKIPPED_EVERY = 1_000
DECAY = 0.99
LARGEST = np.iinfo(np.int32).max

# In the group "often" they are in conflict at two steps of three, in "never" at none.
G = {"never": jnp.array([3.0, 0.5]), "often": jnp.array([1.0, 2.0, -1.0])}
R = {"never": jnp.array([1.0, 1.0]), "often": jnp.array([-2.0, 1.0, 1.0])}
PARAMS = jax.tree.map(jnp.zeros_like, G)


def pair_of(step):
    """Both gradients of a step, counted from 0; every 1000th has a NaN."""
    sign = jnp.where(step % 3 == 0, -1.0, 1.0)
    bad = jnp.where(step % SKIPPED_EVERY == 0, jnp.nan, 0.0)
    return GradientPair(
        empirical=jax.tree.map(lambda x: x + bad, G),
        regularizer={**R, "often": sign * R["often"]},
    )


def conflicts_until(step):
    """In how many of the steps before this one "often" was in conflict.

    Step 0 is skipped, and in step 1 there is no reference yet.
    """
    return sum(1 for k in range(2, step) if k % 3 and k % SKIPPED_EVERY)


def test_counts_are_exact_and_the_average_stays_where_it_came_to_rest():
    inside = dtnh(granularity="leaf", reference_decay=DECAY, inner=optax.trace(0.5))
    tx = skip_nonfinite(optax.chain(inside, optax.scale(-1e-6)))

    def step(carry, _):
        params, state, k = carry
        updates, state = tx.update(pair_of(k), state, params)
        return (optax.apply_updates(params, updates), state, k + 1), None

    chunk = jax.jit(lambda carry: jax.lax.scan(step, carry, length=CHUNK)[0])
    carry = PARAMS, tx.init(PARAMS), jnp.int32(0)
    for _ in range(STEPS // CHUNK):
        carry = chunk(carry)
    params, state, _ = carry
    assert chunk._cache_size() == 1
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))

    skipped, conflicts = STEPS // SKIPPED_EVERY, [0, conflicts_until(STEPS)]
    assert skip_report(state)["skipped"] == skipped
    before = state.inner_state[0]
    assert before.count == STEPS - skipped
    np.testing.assert_array_equal(before.conflict.count, conflicts)
    rates = [group["rate"] for group in conflict_report(state).values()]
    np.testing.assert_allclose(rates, np.divide(conflicts, STEPS - skipped), 1e-12)

    # g never changes. An average rests where its next step, (1 - b) of what is
    # missing, is less than the rounding of the sum.
    rest = jnp.finfo(jnp.float32).eps / (1 - DECAY)
    for name, value in before.reference.items():
        np.testing.assert_allclose(value, G[name], rest)
    reference = chunk(carry)[1].inner_state[0].reference
    chex.assert_trees_all_equal(reference, before.reference)


@pytest.mark.usefixtures("lenient_promotion")  # for Adam
def test_the_steady_rule_finds_the_minimum_and_stays_there():
    """With noisy gradients, of a quadratic loss whose minimum is not the anchor."""
    minimum = jax.tree.map(jnp.ones_like, G)
    tx = optax.chain(mix_regularizers(l2_sp(), l2(mask=True)), dtnh_adamw(1e-3))

    def step(carry, _):
        params, state, key = carry
        key, noise = jax.random.split(key)
        noise = optax.tree.random_like(noise, params)
        grads = jax.tree.map(lambda w, to, e: w - to + e, params, minimum, noise)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state, key), None

    chunk = jax.jit(lambda carry: jax.lax.scan(step, carry, length=CHUNK)[0])
    carry = PARAMS, tx.init(PARAMS), jax.random.key(0)
    distances, lengths = [], []
    for _ in range(STEPS // CHUNK):
        carry = chunk(carry)
        far = optax.tree.sub(carry[0], minimum)
        distances.append(optax.tree.norm(far))
        reference = optax.tree.get(carry[1], "DtnhState").reference
        lengths.append(optax.tree.norm(reference))
    start = optax.tree.norm(minimum)
    half = len(distances) // 2
    assert max(distances[half:]) < 0.15 * start
    assert max(lengths[half:]) < 2 * max(lengths[2:half])


@pytest.mark.parametrize("step", [0, 1], ids=["skipped", "counted"])
def test_counters_stop_at_the_largest_number(step):
    """And do not wrap around to the smallest."""
    tx = multi_steps(skip_nonfinite(dtnh(granularity="leaf")), 1)
    # Two steps before an int32 has no room left; micro-steps start at 0.
    state = jax.tree.map(
        lambda x: jnp.full_like(x, LARGEST - 2) if x.dtype == jnp.int32 else x,
        tx.init(PARAMS),
    )._replace(mini_step=jnp.int32(0))
    update = jax.jit(tx.update)
    for _ in range(4):
        _, state = update(pair_of(step), state)
    assert state.gradient_step == LARGEST
    skips = state.inner_opt_state
    if step == 0:
        assert skips.skipped == skips.in_a_row == LARGEST
        assert skips.inner_state.count == LARGEST - 2
    else:
        assert skips.inner_state.count == LARGEST
        counts = skips.inner_state.conflict.count
        np.testing.assert_array_equal(counts, [LARGEST - 2, LARGEST])
        assert 0.99 < conflict_report(state)["often"]["rate"] <= 1
