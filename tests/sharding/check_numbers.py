"""Numbers are those of one device in every layout and style, and states stay put."""

import functools

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from layouts import LAYOUTS, STYLES, alone, training

pytestmark = pytest.mark.usefixtures("lenient_promotion")
STEPS = 3
NOT_READ = (".cosine", ".removed", ".pull")  # by the next step: jit drops them, unused

expected = functools.cache(functools.partial(alone, steps=STEPS))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_training(layout, style):
    """Three steps: numbers as on one device; no resharding, no second compilation."""
    step, (params, state), given, mesh = training(layout, style)
    places = jax.tree.map(lambda x: x.sharding, (params, state))
    with jax.set_mesh(mesh):
        for _ in range(STEPS):
            before = jax.tree_util.tree_leaves_with_path((params, state))
            params, state = step(params, state, *given)
            kept = [jax.tree_util.keystr(k) for k, x in before if not x.is_deleted()]
            assert all(name.endswith(NOT_READ) for name in kept)
            after = jax.tree.map(lambda x: x.sharding, (params, state))
            assert jax.tree.leaves(after) == jax.tree.leaves(places)
    assert step._cache_size() == 1
    chex.assert_trees_all_close((params, state), expected(), rtol=2e-5, atol=2e-6)
    conflict = optax.tree.get(state, "conflict")
    assert jnp.max(conflict.count) >= 2  # the rule is at work
    assert jnp.max(conflict.removed) > 0.01
