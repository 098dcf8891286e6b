"""``plot_conflict``: it draws what was reported, and can be read in greyscale."""

import re
import sys

import jax
import numpy as np
import pytest
from samplers import G, R

from dtnh_jax import GradientPair, conflict_report, dtnh, plot_conflict

figure = pytest.importorskip("matplotlib.figure")


def new_axes(width=6.0, height=3.0):
    return figure.Figure((width, height), layout="constrained").subplots()


def reports_of(table, names=None, value="cosine"):
    """Reports of a table ``[groups, steps]``."""
    names = names or [f"layer{k}" for k in range(len(table))]
    return [
        {name: {value: x} for name, x in zip(names, column, strict=True)}
        for column in np.transpose(table).tolist()
    ]


def plot(table, names=None, value="cosine", **options):
    ax = options.pop("ax", None) or new_axes()
    return plot_conflict(reports_of(table, names, value), value=value, ax=ax, **options)


def drawn(ax):
    """The mesh's values ``[groups, columns]``, and the edges of the columns."""
    (mesh,) = ax.collections
    return mesh.get_array(), mesh.get_coordinates()[0, :, 0]


def test_it_draws_what_conflict_report_says():
    tx = dtnh(granularity="leaf")
    _, state = jax.jit(tx.update)(GradientPair(G, R), tx.init(G))
    report = conflict_report(state)
    labels = {"cosine": "cosine of", "removed": "removed", "rate": "share of the steps"}
    labels["pull"] = "pull of the regularizer"
    for value, label in labels.items():
        ax = plot_conflict([report], value=value, ax=new_axes())
        values, _ = drawn(ax)
        wanted = [[report[name][value]] for name in ("a", "b")]
        np.testing.assert_array_equal(values, wanted)
        assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b"]
        assert ax.get_xlabel() == "step"
        assert label in ax.collections[0].colorbar.ax.get_ylabel()


@pytest.mark.parametrize("steps", [[0, 10, 40], np.uint32([0, 10, 40])])
def test_rows_run_downwards_and_columns_lie_at_their_steps(steps):
    table = [[-0.5, 0.1, 0.2], [0.3, 0.4, 0.5]]
    ax = plot(table, steps=steps)
    values, edges = drawn(ax)
    np.testing.assert_array_equal(values, table)
    np.testing.assert_array_equal(edges, [-5, 5, 25, 55])
    bottom, top = ax.get_ylim()
    assert bottom > top


def test_the_title_is_worked_out_from_all_reports():
    table = np.full((2, 1000), 0.1)
    table[1, ::2] = -1e-3  # its means over several steps are above 0
    title = "Conflict in 25% of the steps and groups shown,\nmost in layer1 (50%)"
    assert plot(table).get_title() == title
    assert plot(table[:1]).get_title() == "Conflict in 0% of the steps shown"
    removed = plot([[0.1, 0.3], [0.5, 0.7]], value="removed").get_title()
    assert removed.startswith("40% of the regularizer removed, on average,\nmost in")
    rate = plot([[0.0, 0.2], [1.0, 0.6]], value="rate").get_title()
    assert "40% of the steps and groups so far,\nmost in layer1 (60%)" in rate


def test_pull_is_drawn_up_to_its_largest_finite_value():
    """Or up to 1; what is infinite has the last colour, and is no gap."""
    ax = plot([[0.25, np.inf, np.nan, 3.0], [0.5, 0.0, 2.5, 1.0]], value="pull")
    values, _ = drawn(ax)
    np.testing.assert_array_equal(values[0].compressed(), [0.25, 3.0, 3.0])
    np.testing.assert_array_equal(values.mask.sum(axis=1), [1, 0])
    (mesh,) = ax.collections
    assert mesh.get_clim() == (0, 3)
    assert mesh.colorbar.extend == "max"
    assert ax.get_title() == (
        "The regularizer pulls 1 times as hard as\nthe optimizer (median),\n"
        "most in layer0 (3)"
    )
    (mesh,) = plot([[0.25, 0.5]], value="pull").collections
    assert mesh.get_clim() == (0, 1)


def test_the_cosine_can_be_read_in_greyscale():
    (mesh,) = plot([[0.0]]).collections
    colours = mesh.cmap(mesh.norm([*np.linspace(-1, 1, 200), -1e-6, 0.0]))
    grey = colours[:, :3] @ [0.299, 0.587, 0.114]
    assert np.all(np.diff(grey[:200]) > 0)
    assert grey[-1] - grey[-2] > 0.08  # a jump where conflict begins


def test_many_reports_share_columns_and_none_is_lost():
    table = np.linspace(-1, 1, 2003)[None]
    values, edges = drawn(plot(table, steps=range(7, 7 + 2003)))
    assert values.shape == (1, 400)
    width = np.diff(edges)
    assert {*width} == {5, 6}
    np.testing.assert_allclose((values[0] * width).sum() / 2003, 0, atol=1e-12)
    np.testing.assert_array_equal(edges[[0, -1]], [6.5, 2009.5])


def test_nan_is_left_out_and_hatched():
    ax = plot([[0.1, np.nan, -0.2]])
    values, _ = drawn(ax)
    np.testing.assert_array_equal(values.mask, [[False, True, False]])
    assert ax.get_title() == "Conflict in 50% of the steps shown"
    assert ax.get_xlabel() == "step (hatched: NaN)"
    assert ax.patch.get_hatch()
    assert not plot([[0.1]]).patch.get_hatch()
    assert plot([[np.nan]]).get_title() == "Nothing but NaN"


REPORT = {"a": {"cosine": 0}}
REFUSED = {
    "must hold a report": {"reports": []},
    "must hold a report of a group": {"reports": [{}]},
    "must be dicts of the same groups": {"reports": reports_of([[0.1]])[0]},
    "got 3 at [1]": {"reports": [REPORT, 3]},
    "'c': {'cosine': 0}} at [1]": {"reports": [REPORT, {"c": {"cosine": 0}}]},
    "group 'skipped' must have": {"reports": [{"skipped": 3}]},
    "have one number 'cosine'": {"reports": [{"a": {"rate": 1}}]},
    '`value` must be one of "cosine"': {"value": "conflict"},
    "must be 2 increasing numbers, got [1]": {"steps": [1]},
    "increasing numbers, got [1, 1]": {"steps": [1, 1]},
    "increasing numbers, got array([2, 1]": {"steps": np.uint32([2, 1])},
    "increasing numbers, got [0, inf]": {"steps": [0, np.inf]},
    "increasing numbers, got ['0', '1']": {"steps": ["0", "1"]},
    "`ax` must be matplotlib Axes, got 'left'": {"ax": "left"},
}


@pytest.mark.parametrize("says", REFUSED)
def test_wrong_arguments_are_refused(says):
    valid = {"reports": reports_of([[0.1, 0.2]])}
    with pytest.raises((TypeError, ValueError), match=re.escape(says)):
        plot_conflict(**{**valid, **REFUSED[says]})


def test_mapped_reports_are_refused_and_the_advice_works():
    tx = dtnh(granularity="leaf")
    twice = jax.tree.map(lambda x: np.stack([x, 2 * x]), GradientPair(G, R))
    run = jax.jit(jax.vmap(lambda pair: tx.update(pair, tx.init(pair.empirical))[1]))
    reports = [conflict_report(run(twice))]
    with pytest.raises(TypeError, match=r"after jax\.vmap, plot one run"):
        plot_conflict(reports)
    one = [jax.tree.map(lambda x: x[0], report) for report in reports]
    assert "100%" in plot_conflict(one, ax=new_axes()).get_title()


def test_without_matplotlib_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'dtnh-jax\[plot\]'"):
        plot_conflict(reports_of([[0.1]]))
