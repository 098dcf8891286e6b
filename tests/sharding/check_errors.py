"""What is said where ``axis_name`` is missing, names no axis, or does not fit."""

import functools
import re

import pytest
from jax.sharding import PartitionSpec as P
from layouts import TWO_AXES, gradients, project, specs

from dtnh_jax import dtnh, project_conflict

THIRD = {**specs("tensor"), "third": P()}
ACROSS = {**TWO_AXES, "first": {"kernel": P("data", "model"), "bias": P()}}
FIRST = {"first": P(None, "model")}
ALONE = functools.partial(project_conflict, axis_name="model")
FAILS = {
    "mesh axes ('model',) at ['first']['bias']": project("tensor", None),
    "arrays are sharded, pass `axis_name=('model',)`": project("tensor", None),
    "mesh axes ('data', 'model') at ['first']['kernel']": project("", None, ACROSS),
    # Where types do not tell.
    "check_vma=False": project("data", None, check_vma=False),
    "has 'modle', but the axes here are ('": project("tensor", "modle"),
    "has 'model', but the axes here are none": ALONE,
    "no entry for the array at ['second']['bias']": project("tensor", FIRST),
    "on every device, got None at ['second']['bias']": project(
        "tensor", {**FIRST, "second": None}
    ),
    "`axis_name` has an entry at ['third'] that matches nothing": project(
        "tensor", THIRD
    ),
}


@pytest.mark.parametrize("says", FAILS)
def test_what_is_said(says):
    with pytest.raises((TypeError, ValueError), match=re.escape(says)):
        FAILS[says](gradients(0))


@pytest.mark.parametrize("wrong", [3, ("model", 3), {"first": "model"}, {}])
def test_names_that_are_none(wrong):
    with pytest.raises(TypeError, match="must be the name of a mesh axis"):
        dtnh(axis_name=wrong)
