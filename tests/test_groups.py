"""Which leaves go together, and what the groups are called."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import tree_map_with_path

from dtnh_jax import GradientPair, dtnh, project_conflict
from dtnh_jax._groups import divide

NETWORK = {
    "body": [{"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}, {"scale": jnp.ones(2)}],
    "head": {"kernel": jnp.ones((2, 3)), "bias": None},
}


@pytest.mark.parametrize(
    ("granularity", "names", "of_leaf"),
    [
        ("global", ("global",), (0, 0, 0, 0)),
        ("layer", ("body/0", "body/1", "head"), (0, 0, 1, 2)),
        (
            "leaf",
            ("body/0/bias", "body/0/kernel", "body/1/scale", "head/kernel"),
            (0, 1, 2, 3),
        ),
        ({"body": "old", "head": "new"}, ("old", "new"), (0, 0, 0, 1)),
        ({"body": [1, 2], "head": 1}, ("1", "2"), (0, 0, 1, 0)),
        (
            lambda tree: tree_map_with_path(lambda path, _: path[0].key, tree),
            ("body", "head"),
            (0, 0, 0, 1),
        ),
    ],
)
def test_groups(granularity, names, of_leaf):
    assert divide(NETWORK, granularity) == (names, of_leaf)


def test_arrays_at_the_root_are_one_layer():
    assert divide({"w": 1.0, "b": 1.0}, "layer").names == ("(root)",)
    assert divide(jnp.ones(2), "leaf").names == ("(root)",)


def test_names_stay_apart_when_a_key_holds_a_slash():
    groups = divide({"a/b": {"w": 1.0}, "a": {"b": {"w": 1.0}}}, "layer")
    assert len(set(groups.names)) == 2
    assert groups.of_leaf == (0, 1)


def test_an_nnx_variable_is_an_array_not_a_layer():
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Sequential(
        nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Linear(3, 1, rngs=nnx.Rngs(1))
    )
    state = nnx.state(model, nnx.Param)
    assert divide(state, "layer").names == ("layers/0", "layers/1")
    assert divide(nnx.to_pure_dict(state), "layer") == divide(state, "layer")
    assert "layers/0/kernel" in divide(state, "leaf").names


@pytest.mark.parametrize(
    "labels", [{"body": "a"}, {"body": ["a"], "head": "b"}, ["a"], lambda tree: {}]
)
def test_labels_that_do_not_fit(labels):
    with pytest.raises(ValueError, match="labels of `granularity` do not fit"):
        divide(NETWORK, labels)


def test_labels_behave_as_layers_when_they_say_the_same():
    rng = np.random.default_rng(0)
    g, r = (
        jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape)), NETWORK)
        for _ in range(2)
    )
    labels = {"body": ["x", "y"], "head": "z"}
    jax.tree.map(
        np.testing.assert_array_equal,
        project_conflict(r, g, granularity=labels),
        project_conflict(r, g, granularity="layer"),
    )


def test_masked_leaves_belong_to_no_group():
    tx = optax.masked(
        dtnh(granularity="layer"),
        {"body": True, "head": False},
        mask_compatible_extra_args=True,
    )
    g = jax.tree.map(jnp.ones_like, NETWORK)
    r = jax.tree.map(lambda x: -jnp.ones_like(x), NETWORK)
    d, state = tx.update(g, tx.init(NETWORK), NETWORK, regularizer_grads=r)
    assert state.inner_state.conflict.cosine.shape == (2,)
    np.testing.assert_array_equal(d["head"]["kernel"], g["head"]["kernel"])
    np.testing.assert_allclose(d["body"][0]["bias"], jnp.ones(2), 1e-6)


def test_the_state_knows_the_groups_of_the_parameters():
    tx = dtnh(granularity={"body": "old", "head": "new"})
    state = tx.init(NETWORK)
    assert np.asarray(state.group_names).tobytes() == b"oldnew"
    tx.update(GradientPair(NETWORK, NETWORK), state)
