"""A long run: nothing is compiled again, nothing grows, drifts or wraps round."""

import functools
import gc
from pathlib import Path

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
    multi_steps,
    skip_nonfinite,
    skip_report,
)

STEPS = 100_000
CHUNK = 1_000
CALLS = 10_000
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


@functools.cache
def programs():
    """The optimizer, one compiled step of a carry, and a compiled chunk of steps."""
    inside = dtnh(granularity="leaf", reference_decay=DECAY, inner=optax.trace(0.5))
    tx = skip_nonfinite(optax.chain(inside, optax.scale(-1e-6)))

    def step(carry, _=None):
        params, state, k = carry
        updates, state = tx.update(pair_of(k), state, params)
        return (optax.apply_updates(params, updates), state, k + 1), None

    single = jax.jit(lambda carry: step(carry)[0], donate_argnums=0)
    chunk = jax.jit(
        lambda carry: jax.lax.scan(step, carry, length=CHUNK)[0], donate_argnums=0
    )
    return tx, single, chunk


def start():
    tx, *_ = programs()
    return jax.tree.map(jnp.copy, (PARAMS, tx.init(PARAMS), jnp.int32(0)))


def test_a_hundred_thousand_updates():
    """Counts are exact, and the average stays where it came to rest."""
    _, single, chunk = programs()
    carry = start()
    for _ in range(STEPS // CHUNK):
        carry = chunk(carry)
    params, state, steps = carry
    assert chunk._cache_size() == 1
    assert steps == STEPS
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
    average = jax.tree.map(np.array, before.reference)
    for _ in range(100):
        carry = single(carry)
    reference = carry[1].inner_state[0].reference
    chex.assert_trees_all_equal(reference, average)


def resident():
    """Resident memory of this process, in pages."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_calls_one_by_one_leave_nothing_behind():
    _, single, _ = programs()
    carry = start()
    for _ in range(CALLS // 5):  # until every cache and pool is full
        carry = single(carry)
    pages = resident()  # collects the garbage of other tests
    arrays = len(jax.live_arrays())
    for _ in range(CALLS):
        carry = single(carry)
    jax.block_until_ready(carry)
    assert single._cache_size() == 1
    assert len(jax.live_arrays()) <= arrays
    # A page is 4 KiB or more: this is at most 200 bytes a call.
    assert resident() - pages < CALLS * 200 / 4096


def near_the_end(state):
    """The state as it is two steps before an int32 has no room left."""
    return jax.tree.map(
        lambda x: jnp.full_like(x, LARGEST - 2) if x.dtype == jnp.int32 else x, state
    )


def test_counters_stop_at_the_largest_number():
    """And do not wrap around to the smallest."""
    tx = skip_nonfinite(dtnh(granularity="leaf"))
    pair, state = pair_of(1), near_the_end(tx.init(PARAMS))
    update = jax.jit(tx.update)
    for _ in range(4):
        _, state = update(pair, state)
    inside = state.inner_state
    assert inside.count == LARGEST
    np.testing.assert_array_equal(inside.conflict.count, [LARGEST - 2, LARGEST])
    assert 0.99 < conflict_report(state)["often"]["rate"] <= 1


def test_the_counts_of_skipped_steps_stop_at_the_largest_number():
    tx = skip_nonfinite(dtnh(granularity="leaf"))
    pair, state = pair_of(0), near_the_end(tx.init(PARAMS))
    update = jax.jit(tx.update)
    for _ in range(4):
        _, state = update(pair, state)
    report = skip_report(state)
    assert report["skipped"] == report["in_a_row"] == LARGEST
    assert state.inner_state.count == LARGEST - 2


def test_the_count_of_accumulated_updates_stops_at_the_largest_number():
    tx = multi_steps(dtnh(granularity="leaf"), 1)
    state = tx.init(PARAMS)._replace(gradient_step=jnp.int32(LARGEST - 2))
    update = jax.jit(tx.update)
    for _ in range(4):
        _, state = update(pair_of(1), state)
    assert state.gradient_step == LARGEST
