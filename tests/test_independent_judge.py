"""G9: with ``reference_decay`` the judge does not depend on this step's batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import properties as check
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtnh_jax import GradientPair, dtnh

pytestmark = pytest.mark.usefixtures("lenient_promotion")  # for Optax's Adam

DECAY, PAST, FRESH = 0.9, 6, 1000
SIZES = {"a": 12, "b": 5}  # each a group of its own
SURE = 5  # standard errors
INNER = {
    "none": optax.identity(),
    "momentum": optax.trace(0.9),
    "adam": optax.scale_by_adam(),
}


def normal(rng, *shape):
    return {name: rng.standard_normal((*shape, n)) for name, n in SIZES.items()}


def add(left, right, factor=1.0):
    return jax.tree.map(lambda x, y: x + factor * y, left, right)


@functools.cache
def lagged(inner):
    """``dtnh`` after one and the same past: r' on each of the fresh batches, and |u|.

    ``|r'|`` is read from the report, as with the cap ``d`` may be shorter than u + r'.
    """

    @functools.partial(jax.jit, static_argnames="capped")
    def run(past, fresh, r, weight, kappa, capped):
        rule = {"granularity": "leaf", "reference_decay": DECAY, "inner": INNER[inner]}
        tx = dtnh(weight, max_ratio=kappa if capped else None, **rule)

        def step(state, g):
            return tx.update(GradientPair(g, r), state, r)[1], None

        def kept(g):
            u, _ = INNER[inner].update(g, state.inner, r)
            d, new = tx.update(GradientPair(g, r), state, r)
            lengths = {name: jnp.linalg.norm(x) for name, x in u.items()}
            pull = dict(zip(u, new.conflict.pull, strict=True))
            return add(d, u, -1.0), pull, lengths

        state, _ = jax.lax.scan(step, tx.init(r), past)
        return jax.vmap(kept)(fresh)

    return run


def inclusive(past, fresh, r, weight, *_):
    """By a reference that includes this step's own gradient, without inner."""
    kept = {}
    for name, batches in fresh.items():
        m = DECAY * average(past[name]) + (1 - DECAY) * batches
        opposed = np.minimum(0, m @ r[name])[:, None]
        kept[name] = weight * (r[name] - opposed * m / (m**2).sum(1, keepdims=True))
    return kept, None, None


def average(gradients):
    weights = DECAY ** np.arange(PAST - 1, -1, -1.0)
    return np.average(gradients, axis=0, weights=weights)


def judged(rule, loss, past, noise, r, weight):
    """In each group: is r' the same on every batch, so that E<g, r'> = <∇L, r'>, and is
    that at least -‖∇L - m‖‖r'‖?

    ``loss`` is the gradient of the loss, of which each fresh batch sees a noisy one.
    """
    fresh = add(loss, noise)
    kept, *_ = rule(past, fresh, r, weight, 1.0, False)
    for name, g in fresh.items():
        seen, gained = np.sum(g * kept[name], axis=1), kept[name] @ loss[name]
        error = SURE * np.std(seen - gained) / np.sqrt(FRESH)
        away = check.norm(loss[name] - average(past[name]))
        bound = away * np.linalg.norm(kept[name], axis=1).mean()
        longest = np.linalg.norm(kept[name], axis=1).max()
        rounding = 1e-9 * longest * check.norm(loss[name])
        yield (
            np.ptp(kept[name], axis=0).max() <= 1e-9 * np.abs(g).max(),
            abs(np.mean(seen - gained)) <= error + rounding,
            np.mean(gained) >= -bound - rounding,
            np.mean(seen) >= -bound - error - rounding,
        )


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("inner", INNER)
def test_what_one_batch_pushes_through_is_bounded_by_the_error_of_the_average(inner):
    @settings(max_examples=20)
    @given(
        st.integers(0, 2**32 - 1),
        st.sampled_from([0.01, 0.3, 3.0, 100.0]),
        st.sampled_from([0.01, 0.1, 1.0]),
        st.sampled_from([0.01, 1.0, 100.0]),
    )
    def holds(seed, scale, kappa, weight):
        rng = np.random.default_rng(seed)
        loss = normal(rng)
        past = add(loss, normal(rng, PAST), scale)
        noise = jax.tree.map(lambda x: scale * x, normal(rng, FRESH))
        r = add(normal(rng), loss, -rng.exponential())
        assert np.all(list(judged(lagged(inner), loss, past, noise, r, weight)))

        # Under a cap: the same direction on every batch, at most κ|u| long.
        whole, *_ = lagged(inner)(past, add(loss, noise), r, weight, kappa, False)
        _, pull, u = lagged(inner)(past, add(loss, noise), r, weight, kappa, True)
        for name, lengths in u.items():
            assert np.all(pull[name] <= kappa * (1 + 1e-6))  # the report is in float32
            unit = whole[name][0] / check.norm(whole[name][0])
            away = check.norm(loss[name] - average(past[name]))
            gained = pull[name] * lengths * (unit @ loss[name])
            assert np.all(gained >= -kappa * lengths * away * (1 + 1e-6))

    holds()


@pytest.mark.parametrize(
    ("rule", "expected"), [(lagged("none"), True), (inclusive, False)]
)
def test_a_reference_that_includes_this_step_is_not_independent(rule, expected):
    """A test of the test: where m = ∇L, the noise of a batch must push nothing through.

    The inclusive judge follows the noise, 30 times the signal. It then takes out of r
    what opposes this batch, and leaves in it what opposes the loss.
    """
    rng = np.random.default_rng(0)
    loss = normal(rng)
    past = jax.tree.map(lambda x: np.stack([x] * PAST), loss)
    noise = jax.tree.map(lambda x: 30 * x, normal(rng, FRESH))
    r = add(normal(rng), loss, -1.0)
    answers = np.array(list(judged(rule, loss, past, noise, r, 1.0)))
    assert np.all(answers[:, -1])  # what this batch sees gives nothing away
    assert np.all(answers[:, :-1] == expected)
