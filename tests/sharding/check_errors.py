"""What is said where ``axis_name`` is missing, names no axis, or does not fit."""

import functools
import re

import pytest
from check_shard_map import TWO_AXES, project
from jax.sharding import PartitionSpec as P
from layouts import gradients, specs

from dtnh_jax import dtnh, project_conflict


def fails(words, run, error=ValueError):
    with pytest.raises(error, match=re.escape(words)):
        run(gradients(0))


def test_a_missing_name_says_where_and_what_to_do():
    fails("mesh axes ('model',) at ['first']['bias']", project("tensor", None))
    fails("arrays are sharded, pass `axis_name=('model',)`", project("tensor", None))
    fails(
        "mesh axes ('data', 'model') at ['first']['kernel']",
        project(
            "", None, {**TWO_AXES, "first": {"kernel": P("data", "model"), "bias": P()}}
        ),
    )


@pytest.mark.parametrize("layout", ["data", "fsdp"])
def test_a_missing_name_where_types_do_not_tell(layout):
    fails("check_vma=False", project(layout, None, check_vma=False))


def test_an_axis_that_is_not_there():
    fails("has 'modle', but the axes here are ('", project("tensor", "modle"))
    fails(
        "has 'model', but the axes here are none",
        functools.partial(project_conflict, axis_name="model"),
    )


def test_specs_that_do_not_fit():
    first = {"first": P(None, "model")}
    fails("no entry for the array at ['second']['bias']", project("tensor", first))
    fails(
        "on every device, got None at ['second']['bias']",
        project("tensor", {**first, "second": None}),
        TypeError,
    )
    fails(
        "`axis_name` has an entry at ['third'] that matches nothing",
        project("tensor", {**specs("tensor"), "third": P()}),
    )


@pytest.mark.parametrize("wrong", [3, ("model", 3), {"first": "model"}, {}])
def test_names_that_are_none(wrong):
    with pytest.raises(TypeError, match="must be the name of a mesh axis"):
        dtnh(axis_name=wrong)
