"""Which leaves go together, what the groups are called, and where layers are missed."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import tree_map_with_path

from dtnh_jax import (
    GradientPair,
    conflict_report,
    dtnh,
    dtnh_sgd,
    l2_sp,
    project_conflict,
)
from dtnh_jax._groups import divide

MATRIX, VECTOR = np.ones((2, 2), np.float32), np.ones(2, np.float32)
NETWORK = {
    "body": [{"kernel": MATRIX, "bias": VECTOR}, {"scale": VECTOR}],
    "head": {"kernel": np.ones((2, 3), np.float32), "bias": None},
}


def of_arrays(tree, granularity):
    """The name of each array's group, in flattening order."""
    groups = divide(tree, granularity)
    return [groups.names[slot.first] for slot in groups.slots]


SLASHES = {"a/b": {"w": 1.0}, "a": {"b": {"w": 1.0}}}


@pytest.mark.parametrize(
    ("tree", "granularity", "names"),
    [
        (NETWORK, "global", ["global"] * 4),
        (NETWORK, "layer", ["body/0", "body/0", "body/1", "head"]),
        (
            NETWORK,
            "leaf",
            ["body/0/bias", "body/0/kernel", "body/1/scale", "head/kernel"],
        ),
        (NETWORK, {"body": "old", "head": "new"}, ["old", "old", "old", "new"]),
        (NETWORK, {"body": [1, 2], "head": 1}, ["1", "1", "2", "1"]),
        (
            NETWORK,
            lambda tree: tree_map_with_path(lambda path, _: path[0].key, tree),
            ["body", "body", "body", "head"],
        ),
        # At the root, and where two names would read the same.
        (MATRIX, "layer", ["(root)"]),
        (MATRIX, "leaf", ["(root)"]),
        ({"b": 1.0, "w": 1.0}, "layer", ["(root)"] * 2),
        (SLASHES, "layer", ["['a']['b']", "['a/b']"]),
        (SLASHES, "leaf", ["['a']['b']['w']", "['a/b']['w']"]),
        ([MATRIX, MATRIX], [1, "1"], ["1", "'1'"]),
        ([MATRIX, MATRIX], ["", "x"], ["(root)", "x"]),
    ],
)
def test_groups(tree, granularity, names):
    assert of_arrays(tree, granularity) == names
    assert divide(tree, granularity).names == tuple(dict.fromkeys(names))


@pytest.mark.parametrize(
    ("granularity", "says"),
    [
        ({"body": "a"}, r"no entry for the array at \['head'\]\['kernel'"),
        ({"body": ["a"], "head": "b"}, r"array at \['body'\]\[1\]"),
        (["a"], r"entry at \[0\] that matches nothing; there are \['body'"),
        (lambda tree: {}, "has entries for nothing"),
        (jax.tree.map(np.asarray, NETWORK), "labels such as strings"),
        ("module", "one of"),
        (3, "pytree of labels"),
        ({}, "pytree of labels"),
    ],
)
def test_labels_that_do_not_fit(granularity, says):
    with pytest.raises((TypeError, ValueError), match=f"`granularity`.*{says}"):
        divide(NETWORK, granularity)


@pytest.mark.parametrize("granularity", [{"a": "A", "b": "B", "c": "A"}, "leaf"])
def test_groups_keep_their_numbers_where_gradients_are_missing(granularity):
    """Without ``a``, whose group ``init`` numbered first, B is the first to be seen."""
    params = dict.fromkeys("abc", VECTOR)
    g = {"a": None, "b": VECTOR, "c": -VECTOR}
    r = {"a": None, "b": -VECTOR, "c": -VECTOR}
    tx = dtnh(granularity=granularity)
    _, state = tx.update(GradientPair(g, r), tx.init(params), params)
    found = {name: round(x["cosine"]) for name, x in conflict_report(state).items()}
    assert found == (
        {"a": 0, "b": -1, "c": 1} if granularity == "leaf" else {"A": 1, "B": -1}
    )


def test_gradients_of_other_groups_than_those_of_init():
    tx = dtnh(granularity="leaf")
    state = tx.init({"a": VECTOR})
    g = {"a": VECTOR, "b": VECTOR}
    for params in (None, g):
        with pytest.raises(ValueError, match="form 2 groups, but the parameters"):
            tx.update(GradientPair(g, g), state, params)


# L1: NNX, whose Variables are boxes around one array each.


def test_an_nnx_module_and_its_states_have_the_same_layers():
    nnx = pytest.importorskip("flax.nnx")
    rngs = nnx.Rngs(0)
    linear, other = nnx.Linear(4, 3, rngs=rngs), nnx.Linear(3, 1, rngs=rngs)
    for module, names in (
        (linear, ["(root)"] * 2),
        (nnx.Sequential(linear, other), ["layers/0"] * 2 + ["layers/1"] * 2),
    ):
        state = nnx.state(module)
        for tree in (module, state, nnx.to_pure_dict(state)):
            assert of_arrays(tree, "layer") == names
            assert of_arrays(tree, "leaf")[0].endswith("bias")


@pytest.mark.parametrize("way", ["jax.grad", "nnx.grad"])
def test_an_nnx_module_itself_as_the_parameters(way):
    """``jax.grad`` gives a module, ``nnx.grad`` a state: as parameters belong to it."""
    nnx = pytest.importorskip("flax.nnx")
    module = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    start = jax.tree.map(jnp.copy, nnx.state(module))
    params = module if way == "jax.grad" else nnx.state(module)
    tx = optax.chain(l2_sp(), dtnh(granularity="layer"))
    state = tx.init(params)
    module.kernel[...] += 1.0
    grad = jax.grad if way == "jax.grad" else nnx.grad
    g = grad(lambda m: jnp.sum(m(jnp.ones((1, 4)))))(module)
    d, state = tx.update(g, state, params)
    assert list(conflict_report(state)) == ["(root)"]
    g, d = (nnx.state(x) if way == "jax.grad" else x for x in (g, d))
    expected = jax.tree.map(
        lambda g, w, w0: g + w - w0,
        *map(nnx.to_pure_dict, (g, nnx.state(module), start)),
    )
    chex.assert_trees_all_close(nnx.to_pure_dict(d), expected)


# L2: what paths do not divide into layers.

FLAT = {
    "list": [MATRIX, VECTOR, MATRIX, VECTOR],
    "tuple": (MATRIX, MATRIX),
    "dict": {"W1": MATRIX, "b1": VECTOR, "W2": MATRIX, "b2": VECTOR},
    "Keras paths": {"d/kernel": MATRIX, "d/bias": VECTOR, "e/kernel": MATRIX},
    "list of a module": {"body": [MATRIX, VECTOR, MATRIX], "head": {"w": MATRIX}},
}


def _eqx(name, *args):
    eqx = pytest.importorskip("equinox")
    module = getattr(eqx.nn, name)(*args, key=jax.random.key(0))
    return eqx.filter(module, eqx.is_array)


def _nnx(name, *args):
    nnx = pytest.importorskip("flax.nnx")
    return nnx.state(getattr(nnx, name)(*args, rngs=nnx.Rngs(0)), nnx.Param)


LAYERED = {
    "array": lambda: MATRIX,
    "layer": lambda: {"kernel": MATRIX, "bias": VECTOR},
    "list of one": lambda: [MATRIX, VECTOR],
    "norms": lambda: [VECTOR, VECTOR, VECTOR],
    "several heads": lambda: {"kernel": np.ones((2, 2, 2)), "bias": MATRIX},
    "layers": lambda: [{"w": MATRIX, "b": VECTOR}, {"w": MATRIX, "b": VECTOR}],
    "pairs": lambda: [(MATRIX, VECTOR), (MATRIX, VECTOR)],
    "cell": lambda: {"cell": {"ii": MATRIX, "hh": MATRIX}},
    "Equinox LSTM": lambda: _eqx("LSTMCell", 2, 3),
    "NNX LSTM": lambda: _nnx("LSTMCell", 2, 3),
    "NNX LoRA": lambda: _nnx("LoRA", 2, 1, 3),
}


@pytest.mark.parametrize("name", FLAT)
def test_flat_containers_warn_once_with_the_remedy(name):
    params = FLAT[name]
    where = r"\['body'\]" if name == "list of a module" else "the root"
    says = f"the 2 matrices at {where}.*pass labels, a tree of the same structure"
    with pytest.warns(UserWarning, match=says) as caught:
        state = dtnh_sgd(1e-3).init(params)
    assert len(caught) == 1
    dtnh_sgd(1e-3).update(GradientPair(params, params), state, params)
    with pytest.warns(UserWarning, match=says):
        project_conflict(GradientPair(params, params), granularity="layer")
    labels = tree_map_with_path(lambda path, _: str(path), params)
    for silent in (labels, lambda _: labels, "leaf", "global"):
        dtnh(granularity=silent).init(params)


@pytest.mark.parametrize("name", LAYERED)
def test_layers_do_not_warn(name):
    tree = LAYERED[name]()
    dtnh(granularity="layer").init(tree)
    dtnh(granularity="layer").init(jax.eval_shape(lambda: tree))


def test_stacked_layers_at_the_root_do_not_warn():
    """Of ``w`` and ``b`` each layer has a matrix and a vector."""
    tree = {"w": np.ones((3, 2, 2), np.float32), "b": np.ones((3, 2), np.float32)}
    dtnh(granularity="layer", stacked=0).init(tree)
    with pytest.warns(UserWarning, match="the 2 matrices at the root"):
        dtnh(granularity="layer").init(tree)
