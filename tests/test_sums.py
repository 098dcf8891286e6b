"""Sums of groups, and numbers of groups taken out of a vector of all."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtnh_jax import _axes, _groups, _sums, _trees

TREE = {
    "scalar": (),
    "b": {"kernel": (3, 5), "bias": (5,)},
    "blocks": {"kernel": (4, 3, 2), "bias": (4, 2)},
    "empty": (0, 2),
    "tail": (7,),
}


@pytest.mark.parametrize("count", [1, 32, 33, 70])
@pytest.mark.parametrize("bad", [0.0, np.inf, np.nan])
def test_each_group_gets_its_own_numbers(count, bad):
    """Which a CPU takes from a vector by masks: they must not spread a NaN."""
    tree = {f"w{k:02}": np.zeros(2) for k in range(count)} | {"x": np.zeros((4, 2))}
    groups = _groups.divide(tree, "leaf", {"x": 0})
    vectors = np.random.default_rng(0).standard_normal((2, count + 4))
    vectors[:, count // 2] += bad
    taken = _sums.scalars(jnp.asarray(vectors, np.float32), groups)
    expected = [*vectors[:, :count].T, vectors[:, count:]]
    chex.assert_trees_all_equal(taken, [np.float32(x) for x in expected])


def random_lists(shapes, dtype, count):
    rng = np.random.default_rng(0)

    def draw(shape):
        x = rng.standard_normal(shape)
        if np.issubdtype(dtype, np.complexfloating):
            x = x + 1j * rng.standard_normal(shape)
        return jnp.asarray(x, dtype)

    return [[draw(shape) for shape in shapes] for _ in range(count)]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, np.complex64])
@pytest.mark.parametrize(
    ("granularity", "stacked"),
    [("global", None), ("leaf", None), ("layer", {"blocks": 0})],
)
def test_inner_products_in_each_group(granularity, stacked, dtype):
    tree = jax.tree.map(jnp.zeros, TREE, is_leaf=lambda x: isinstance(x, tuple))
    layout = _trees.Layout(tree)
    groups = _groups.divide(tree, granularity, stacked)
    axes = _axes.find(None, layout, [layout.leaves(tree)], groups.axes)
    shapes = [x.shape for x in layout.leaves(tree)]
    a, b = random_lists(shapes, dtype, 2)
    pairs = [(a, a), (a, b), (b, b)]
    found = _sums.products(pairs, groups, axes, np.dtype(np.float32))
    wide = np.complex128 if np.issubdtype(dtype, np.complexfloating) else np.float64
    expected = np.zeros((3, len(groups.names)))
    for row, (x, y) in zip(expected, pairs, strict=True):
        for u, v, slot in zip(x, y, groups.slots, strict=True):
            product = np.real(np.conj(np.asarray(u, wide)) * np.asarray(v, wide))
            others = tuple(i for i in range(product.ndim) if i != slot.axis)
            row[slot.first : slot.last] += product.sum(axis=others)
    chex.assert_trees_all_close(found, np.float32(expected), rtol=2e-6, atol=2e-6)
    # A GPU takes all sums of an array, and all totals, together.
    rows = [list(_sums._products(*pair, np.dtype(np.float32))) for pair in pairs]
    together = jax.jit(
        lambda rows: _sums._totals_together(rows, groups, axes, rows[0][0].dtype)
    )
    chex.assert_trees_all_close(found, together(rows), rtol=2e-6, atol=2e-6)


def test_sums_of_many_numbers_are_accurate():
    tree = {"w": jnp.zeros((1 << 11, 1 << 12))}
    groups = _groups.divide(tree, "global")
    axes = _axes.find(None, _trees.Layout(tree), [[tree["w"]]], groups.axes)
    (a,), (b,) = random_lists([tree["w"].shape], np.float32, 2)
    products = jax.jit(lambda *pairs: _sums.products(pairs, groups, axes, a.dtype))
    found = products(([a], [a]), ([a], [b]), ([b], [b]))[:, 0]
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    expected = np.array([np.sum(a * a), np.sum(a * b), np.sum(b * b)])
    assert np.abs(found - expected).max() < 1e-5 * a.size
