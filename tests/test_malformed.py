"""Bad input is always a TypeError or a ValueError of ours that names what is wrong.

Trees are drawn, one thing in each is broken, and the error is looked at: its type, its
words, and that it was raised here, not somewhere inside of JAX.
"""

import math
import traceback
from pathlib import Path
from typing import NamedTuple

import hypothesis
import jax
import numpy as np
import optax
import pytest
from hypothesis import strategies as st
from jax.tree_util import keystr, tree_flatten_with_path

import dtnh_jax
from dtnh_jax import (
    GradientPair,
    MixState,
    dtnh,
    feature_distillation,
    l2,
    l2_sp,
    l2_sp_penalty,
    mix_regularizers,
    multi_steps,
    project_conflict,
)

PACKAGE = str(Path(dtnh_jax.__file__).parent)


class Layer(NamedTuple):
    """A container other than a dict."""

    kernel: object
    bias: object


def arrays():
    shapes = st.sampled_from([(), (1,), (2,), (2, 3), (0,)])
    return shapes.map(lambda shape: np.ones(shape, np.float32))


def trees():
    """Nested containers with at least one array."""
    inner = st.recursive(
        arrays(),
        lambda child: st.one_of(
            st.dictionaries(st.sampled_from("abc"), child, min_size=1, max_size=3),
            st.lists(child, min_size=1, max_size=3),
            st.tuples(child, child),
            st.builds(Layer, child, child),
        ),
        max_leaves=5,
    )
    return st.dictionaries(st.sampled_from("wxyz"), inner, min_size=1, max_size=3)


JUNK = (None, "text", object(), {}, [], [1.0], (1.0, 2.0), 1j, np.ones(2), b"x", len)
# What breaks one leaf, with a word of the message that must come.
LEAF_BREAKS = {
    "shape": (lambda x: np.ones((*x.shape, 2), np.float32), "shape"),
    "int": (lambda x: np.ones(x.shape, np.int32), "int32"),
    "bool": (lambda x: np.ones(x.shape, bool), "bool"),
    "complex": (lambda x: x.astype(np.complex64), "complex64"),
    "text": (lambda x: "text", "str"),
    "text array": (lambda x: np.full(x.shape, "text"), "dtype"),
    "object": (lambda x: np.full(x.shape, None), "dtype"),
    "lost": (lambda x: None, "structure|nothing|no array"),
    "container": (lambda x: {"deeper": x}, "structure|nothing|no array"),
}


@st.composite
def broken_pairs(draw):
    """A pair with one broken leaf in one half, and what the message must say."""
    tree = draw(trees())
    flat, treedef = tree_flatten_with_path(tree)
    at = draw(st.integers(0, len(flat) - 1))
    how = draw(st.sampled_from(sorted(LEAF_BREAKS)))
    change, words = LEAF_BREAKS[how]
    leaves = [x for _, x in flat]
    leaves[at] = change(leaves[at])
    halves = [tree, treedef.unflatten(leaves)]
    if draw(st.booleans()):
        halves.reverse()
    named_by_path = how not in ("lost", "container")
    return halves, words, keystr(flat[at][0]) if named_by_path else ""


def refusal(call):
    """The error that a call ends in, after a look at its type and where it is from."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert last.filename.startswith(PACKAGE), f"raised in {last}: {caught.value}"
    return str(caught.value)


def says(message, words):
    assert any(word in message for word in words.split("|")), (words, message)


@hypothesis.given(broken_pairs())
def test_broken_pairs(broken):
    (g, r), words, path = broken
    tx = dtnh()
    state = tx.init({})
    for call in (
        lambda: tx.update(GradientPair(g, r), state),
        lambda: tx.update(g, state, regularizer_grads=r),
        lambda: project_conflict(GradientPair(g, r)),
        lambda: mix_regularizers().update(GradientPair(g, r), MixState(())),
    ):
        message = refusal(call)
        says(message, words)
        assert path in message


@hypothesis.given(trees(), st.sampled_from(JUNK), st.booleans())
def test_what_is_no_pair(tree, junk, reverse):
    tx = dtnh()
    state = tx.init(tree)
    for pair in ((tree, tree), [tree, tree], tree, {"g": tree, "r": tree}):
        says(refusal(lambda pair=pair: tx.update(pair, state)), "GradientPair")
    halves = (junk, tree) if reverse else (tree, junk)
    refusal(lambda: tx.update(GradientPair(*halves), state))


@hypothesis.given(trees(), st.data())
def test_labels_that_do_not_fit(tree, data):
    flat, treedef = jax.tree.flatten(tree)
    labels = treedef.unflatten(["label"] * len(flat))
    key = data.draw(st.sampled_from(sorted(tree)))
    broken = data.draw(
        st.sampled_from(
            [
                {k: v for k, v in labels.items() if k != key},
                {**labels, "another": "label"},
                {**labels, key: {"too": {"deep": {"for": {"it": "label"}}}}},
                list(labels.values()),
                (labels, labels),
            ]
        )
    )
    given = data.draw(st.sampled_from([broken, lambda _: broken]))
    says(refusal(lambda: dtnh(granularity=given).init(tree)), "`granularity`")


NUMBERS = st.sampled_from(
    [math.nan, -1.0, -1e-30, -math.inf, np.float32(-2), np.array(-1.0), *JUNK[1:]]
)
CONSTRUCTORS = {
    "weight": lambda x: dtnh(x),
    "max_ratio": lambda x: dtnh(max_ratio=x),
    "reference_decay": lambda x: dtnh(reference_decay=x),
    "on_conflict": lambda x: dtnh(on_conflict=x),
    "granularity": lambda x: dtnh(granularity=x),
    "inner": lambda x: dtnh(inner=x),
    "alpha": lambda x: (l2_sp(x), l2(x)),
    "beta": lambda x: l2_sp(1.0, x),
    "weights[1]": lambda x: mix_regularizers(l2_sp(), l2(), weights=[1.0, x]),
    "makers[0]": lambda x: mix_regularizers(x),
    "every_k": lambda x: multi_steps(optax.chain(dtnh(), optax.sgd(0.1)), x),
    "tx": lambda x: multi_steps(x, 2),
}
# What of the above is no error: a schedule, labels, a function to labels.
TAKES = {
    "weight": callable,
    "every_k": callable,
    "granularity": lambda x: not isinstance(x, str | bytes | type(None) | complex),
}


@hypothesis.given(st.sampled_from(sorted(CONSTRUCTORS)), NUMBERS)
def test_arguments_out_of_range_or_of_another_kind(name, value):
    hypothesis.assume(not (name in TAKES and TAKES[name](value)))
    says(refusal(lambda: CONSTRUCTORS[name](value)), f"`{name}`")


ENTRIES = {
    "stacked": lambda x, tree: dtnh(granularity="leaf", stacked=x).init(tree),
    "new": lambda x, tree: l2_sp(new=x).init(tree),
    "mask": lambda x, tree: l2(mask=x).update(tree, (), tree),
}


# No function, and with entries: without any nothing is stacked, and nothing new.
WRONG = st.sampled_from(JUNK[1:3] + JUNK[5:-1])


@hypothesis.given(trees(), st.sampled_from(sorted(ENTRIES)), WRONG)
def test_axes_and_booleans_that_are_none(tree, name, value):
    says(refusal(lambda: ENTRIES[name](value, tree)), f"`{name}`")


@hypothesis.given(broken_pairs())
def test_pretrained_parameters_that_do_not_fit(broken):
    """Without a path it may be a None that was put in, which says that it is new.

    Nor is it an error that parameters without a gradient have no anchor.
    """
    (params, pretrained), words, path = broken
    hypothesis.assume(path)
    kinds = [
        getattr(x, "dtype", np.dtype(object)).kind for x in jax.tree.leaves(params)
    ]
    hypothesis.assume(set(kinds) <= set("fc"))
    for call in (
        lambda: l2_sp(0.1, pretrained=pretrained).init(params),
        lambda: l2_sp_penalty(params, pretrained, 0.1),
    ):
        message = refusal(call)
        says(message, words)
        assert path in message


@hypothesis.given(broken_pairs())
def test_feature_maps_that_do_not_fit(broken):
    (student, teacher), words, _ = broken
    says(refusal(lambda: feature_distillation(student, teacher)), words)


@pytest.mark.slow
@pytest.mark.parametrize(
    "property_",
    [
        test_broken_pairs,
        test_what_is_no_pair,
        test_labels_that_do_not_fit,
        test_arguments_out_of_range_or_of_another_kind,
        test_axes_and_booleans_that_are_none,
        test_pretrained_parameters_that_do_not_fit,
        test_feature_maps_that_do_not_fit,
    ],
    ids=lambda test: test.__name__,
)
def test_ten_thousand_of_them(property_):
    hypothesis.settings(max_examples=1500)(property_)()
