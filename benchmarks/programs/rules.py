"""The methods that DTNH is compared with, as Optax transformations."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree


def l2_sp_by_hand(
    alpha: float, pretrained: Any = None, new: str = ""
) -> optax.GradientTransformation:
    """Adds ``alpha * (w - w0)``, except to the entry ``new``. The state is ``w0``."""

    def init(params):
        return jax.tree.map(jnp.array, params if pretrained is None else pretrained)

    def update(updates, state, params=None):
        assert params is not None

        def add(path, g, w, w0):
            is_new = bool(new) and path[0] == jax.tree_util.DictKey(new)
            return g if is_new else g + alpha * (w - w0)

        return jax.tree_util.tree_map_with_path(add, updates, params, state), state

    return optax.GradientTransformation(init, update)


def naive_surgery(
    weight: float = 1.0, eps: float = 1e-8
) -> optax.GradientTransformation:
    """The projection of ``dtnh``, over two long vectors."""

    def update(pair, params):
        g, restore = ravel_pytree(pair.empirical)
        r, _ = ravel_pytree(pair.regularizer)
        opposed = jnp.minimum(jnp.vdot(g, r), 0) / (jnp.vdot(g, g) + eps)
        return restore(g + weight * (r - opposed * g))

    return optax.stateless(update)
