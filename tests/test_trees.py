"""Trees of the user's are matched by path: containers, prefixes, extra entries."""

import re
from types import MappingProxyType

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dtnh_jax import GradientPair, dtnh, l2, l2_sp
from dtnh_jax._groups import divide
from dtnh_jax._trees import Layout

nnx = pytest.importorskip("flax.nnx")
freeze = pytest.importorskip("flax.core").freeze

RNGS = nnx.Rngs(0)
MODULE = nnx.Sequential(nnx.Linear(2, 3, rngs=RNGS), nnx.Linear(3, 2, rngs=RNGS))
PLAIN = nnx.to_pure_dict(nnx.state(MODULE))
# The same arrays in containers of several kinds.
CONTAINERS = {
    "module": MODULE,
    "state": nnx.state(MODULE),
    "plain": PLAIN,
    "frozen": freeze(PLAIN),
    # An integer key of a state matches an index of a list.
    "listed": {"layers": [PLAIN["layers"][i] for i in range(2)]},
}


def with_leaves(tree, leaves):
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


KEYS = [("layers", i, name) for i in "01" for name in ("bias", "kernel")]


@pytest.mark.parametrize("of", CONTAINERS)
def test_any_container_may_stand_for_any_other(of):
    """In labels, ``stacked``, ``new`` and ``pretrained``, of which one array is new."""
    params = CONTAINERS[of]
    assert list(Layout(params).keys) == KEYS
    of_two = ["b[0]", "b[1]"]
    of_three = ["a[0 of 3]", "a[1 of 3]", "a[2 of 3]"]
    for other in CONTAINERS.values():
        assert Layout(params).match(with_leaves(other, range(4)), "name") == [*range(4)]
        labels = with_leaves(other, ["a", "b", "b", "a"])
        groups = divide(params, labels, with_leaves(other, [0, 0, -1, 1]))
        assert groups.names == (*of_three, *of_two, "a[0 of 2]", "a[1 of 2]")
        assert [slot.first for slot in groups.slots] == [0, 3, 3, 5]
        new = with_leaves(other, [True, False, False, False])
        pretrained = jax.tree.map(lambda x: x + 1, other)
        anchor = l2_sp(pretrained=pretrained, new=new).init(params).anchor
        expected = [x + 1 for x in jax.tree.leaves(params)][1:]
        chex.assert_trees_all_equal(jax.tree.leaves(anchor), expected)


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        (5, [5] * 4),
        (None, [None] * 4),
        ({"layers": 5}, [5] * 4),
        ({"layers": [5, 6]}, [5, 5, 6, 6]),
        ({"layers": {0: 5, 1: {"bias": 6, "kernel": 7}}}, [5, 5, 6, 7]),
        ({"layers": {"0": None, "1": 6}}, [None, None, 6, 6]),
        ({"layers": {1: {"bias": 6}}}, ["", "", 6, ""]),
        ({}, [""] * 4),
    ],
)
def test_an_entry_holds_for_everything_below_it(prefix, found):
    for tree in CONTAINERS.values():
        assert Layout(tree).match(prefix, "name", default="") == found


TREES_OF_THE_USER = {
    "granularity": lambda tree: divide(MODULE, tree),
    "stacked": lambda tree: divide(MODULE, "layer", tree),
    "pretrained": lambda tree: l2_sp(pretrained=tree).init(MODULE),
    "new": lambda tree: l2_sp(new=tree).init(MODULE),
    "mask": lambda tree: l2(mask=tree).update(PLAIN, (), PLAIN),
}


@pytest.mark.parametrize("name", TREES_OF_THE_USER)
@pytest.mark.parametrize(
    ("broken", "where"),
    [
        ({"layers": {0: "x", 1: None}, "typo": None}, "['typo']"),
        ({"layers": {0: "x", 1: {"bias": "x", "typo": "x"}}}, "['layers'][1]['typo']"),
        ({"layers": {0: "x", 1: {"bias": {"typo": "x"}}}}, "[1]['bias']['typo']"),
    ],
)
def test_an_entry_that_matches_nothing_is_named(name, broken, where):
    """Whatever the entry is, and whatever is missing besides."""
    says = rf"`{name}` has an entry at .*{re.escape(where)}.* that matches nothing"
    with pytest.raises(ValueError, match=says):
        TREES_OF_THE_USER[name](broken)


def test_specs_are_matched_too():
    tx = dtnh(axis_name={"w": jax.P("x"), "typo": jax.P()})
    g = {"w": jnp.ones(2)}
    state = tx.init(g)
    with pytest.raises(ValueError, match=r"`axis_name` has an entry at \['typo'\]"):
        tx.update(g, state, regularizer_grads=g)


def mapping(tree):
    """Dicts as mappings that JAX takes for leaves."""
    if isinstance(tree, dict):
        return MappingProxyType({k: mapping(x) for k, x in tree.items()})
    return tree


def test_a_mapping_need_not_be_a_pytree():
    """Such as the ``ConfigDict`` of ``ml_collections``, alone or inside a pytree."""
    blocks = {"w": jnp.ones((2, 3)), "gain": jnp.ones(2)}
    params = {"blocks": blocks, "none": None, "head": {"w": jnp.ones(2)}}
    labels = {"blocks": {"w": "a", "gain": "b"}, "none": None, "head": "c"}
    axes = {"blocks": 0, "head": {"w": None}}
    groups = divide(params, labels, axes)
    assert groups.names == ("b[0]", "b[1]", "a[0]", "a[1]", "c")
    assert divide(params, mapping(labels), mapping(axes)) == groups
    within = {key: mapping(label) for key, label in labels.items()}
    assert divide(params, within, lambda tree: mapping(axes)) == groups
    new = {"blocks": {"gain": True}}
    for tree in (new, mapping(new), {"blocks": mapping(new["blocks"])}):
        assert l2_sp(new=tree).init(params).anchor["blocks"]["gain"] is None
    anchor = l2_sp(pretrained=mapping(params)).init(params).anchor
    chex.assert_trees_all_equal(anchor, params)
    typo = mapping({"blocks": {"typo": 0}})
    with pytest.raises(ValueError, match=r"entry at \['blocks'\]\['typo'\] that"):
        divide(params, "layer", typo)


def test_a_tree_that_is_callable_is_a_tree():
    eqx = pytest.importorskip("equinox")

    class Net(eqx.Module):
        a: object
        b: object

        def __call__(self):
            raise AssertionError("called, though it is a tree")

    params = Net(jnp.ones((2, 2)), jnp.ones((2, 2)))
    assert divide(params, Net("x", "y")).names == ("x", "y")
    assert divide(params, "leaf", Net(0, None)).names == ("a[0]", "a[1]", "b")
    assert l2_sp(new=Net(True, False)).init(params).anchor.a is None
    r = l2(mask=Net(False, True)).update(params, (), params)[0].regularizer
    chex.assert_trees_all_equal(r.a, 0 * params.a)
    chex.assert_trees_all_equal(r.b, params.b)


def test_positions_without_arrays_take_what_they_like():
    """No array is there, so an entry at it, or below it, is of no use and no error."""
    tree = {
        "w": jnp.ones(2),
        "none": None,
        "masked": optax.MaskedNode(),
        "f": len,
        "count": jnp.ones((), int),
        "empty": {},
        "mode": "d",
        "dtype": jnp.float32,
    }
    layout = Layout(tree)
    assert layout.keys == [("w",)]
    entries = dict.fromkeys(tree, 1) | {"none": {"deep": {"er": 1}}, "masked": [1, 2]}
    assert layout.match(entries, "name") == [1]
    assert layout.match({"w": 1}, "name") == [1]
    built = layout.build([5])
    absent = dict.fromkeys(("f", "count", "mode", "dtype"))
    assert built == {**tree, "w": 5, **absent}
    assert layout.build([5], tree) == {**tree, "w": 5}


def test_parameters_of_another_structure():
    g = {"a": jnp.ones(2), "b": jnp.ones(2)}
    for params in ({"a": g["a"]}, [g["a"], g["b"]], g["a"]):
        with pytest.raises(ValueError, match="must have the same structure"):
            l2().update(g, (), params)


def test_a_pair_needs_the_same_containers():
    g = {"a": jnp.ones(2)}
    for at, inside in (("the root", lambda x: x), ("['m']", lambda x: {"m": x})):
        pair = GradientPair(inside(g), inside(freeze(g)))
        says = rf"has FrozenDict at {re.escape(at)}, empirical gradient dict"
        with pytest.raises(ValueError, match=says):
            dtnh().update(pair, dtnh().init(pair.empirical))


def test_a_box_with_more_than_its_value_is_no_box():
    eqx = pytest.importorskip("equinox")

    class Box(eqx.Module):
        value: object
        scale: object = None

    one, two = np.ones(2), np.ones((2, 2))
    assert Layout({"w": Box(one)}).keys == [("w", "value")]
    assert Layout(Box(one, two)).keys == [("value",), ("scale",)]
