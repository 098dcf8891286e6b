"""Numbers are those of one device in every layout and style, and states stay put."""

import functools

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from layouts import FORMS, LAYOUTS, STYLES, alone, training

pytestmark = pytest.mark.usefixtures("lenient_promotion")
STEPS = 3
NOT_READ = (".cosine", ".removed", ".pull")  # by the next step: jit drops them, unused

FIRST, *MORE = FORMS

expected = functools.cache(functools.partial(alone, steps=STEPS))


# The first form has all that dtnh does with an array.
every_form = pytest.mark.parametrize(
    "form", [FIRST, *(pytest.param(form, marks=pytest.mark.slow) for form in MORE)]
)


@every_form
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_training(layout, style, form):
    """Three steps: numbers as on one device; no resharding, no second compilation."""
    step, (params, state), given, mesh = training(form, layout, style)
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
    chex.assert_trees_all_close((params, state), expected(form), rtol=2e-5, atol=2e-6)


@every_form
def test_there_is_conflict_to_be_found(form):
    """In the training above the rule is at work."""
    _, state = expected(form)
    conflict = optax.tree.get(state, "conflict")
    assert jnp.max(conflict.count) >= 2
    assert jnp.max(conflict.removed) > 0.01
