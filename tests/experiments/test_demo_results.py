"""Statistics over seeds, tables, and what the figures say."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.demo import figures, tables
from experiments.demo.compared import ARMS, PANELS, STEADY
from experiments.demo.results import Summary, diverged, read, summarize
from experiments.finetune import Cell
from experiments.methods import METHODS
from experiments.statistics import Estimate, estimate
from experiments.train import Trace


def _cell(method, accuracy, cosine, weight: float | None = 0.1, source="MNIST") -> Cell:
    cosine = np.asarray(cosine, np.float32)
    groups = tuple(f"layer{i}" for i in range(cosine.shape[-1]))
    trace = Trace(np.zeros(cosine.shape[:2]), cosine, cosine < 0)
    return Cell(source, method, weight, np.asarray(accuracy), groups, trace, 1.0)


COSINE = [[[-0.5, 0.1], [-0.3, 0.1]], [[-0.5, 0.1], [-0.3, 0.1]]]


def test_estimate_against_the_formula():
    values = estimate(np.array([1.0, 2.0, 6.0]))
    assert values.mean == 3
    assert values.standard_error == pytest.approx(np.sqrt(7 / 3))


def test_the_gain_is_over_plain_fine_tuning_paired_by_seed():
    cell = _cell("dtnh-layer", [0.51, 0.91], COSINE)
    others = [
        _cell("plain", [0.0, 0.0], COSINE, weight=None, source="animals"),
        _cell("l2-sp", [0.1, 0.1], COSINE),
        _cell("plain", [0.50, 0.90], COSINE, weight=None),
        cell,
    ]
    summary = summarize(cell, others)
    assert summary.gain is not None
    assert summary.accuracy is not None
    assert summary.gain.mean == pytest.approx(1)
    assert summary.gain.standard_error == pytest.approx(0, abs=1e-12)
    assert summary.accuracy.standard_error == pytest.approx(20)
    assert summary.conflict_rate == 0.5
    assert summary.mean_cosine == pytest.approx(-0.15)
    assert tables.difference(summary) == "+1.0 ± 0.0"
    assert summarize(others[2], others).gain is None


def test_what_diverged_is_told_and_has_no_numbers():
    summary = summarize(diverged("MNIST", "kd", 100.0, 3), [])
    assert summary.accuracy is summary.gain is None
    assert tables.difference(summary) == "diverged"


@pytest.mark.parametrize(
    ("value", "text"), [(-0.04, "+0.0"), (-0.06, "−0.1"), (3.3, "+3.3"), (0, "+0.0")]
)
def test_numbers_have_a_true_minus_sign_and_none_before_zero(value, text):
    assert tables.number(value) == text


def _summaries(gains):
    """Of one source and every method, the same gains at λ = 0.1, 1, ..."""
    plain = Summary("MNIST", "plain", None, Estimate(80.0, 1.0), None, None, None)
    return [
        plain,
        *(
            Summary(
                "MNIST", method, 10.0**i / 10, None if gain is None else plain.accuracy,
                None if gain is None else Estimate(gain, 0.5), None, None,
            )
            for method in ARMS
            for i, gain in enumerate(gains)
        ),
    ]  # fmt: skip


def test_the_tables_hold_every_method_and_weight():
    summaries = _summaries([1.0, -20.0, None])
    text = tables.markdown(summaries, "title", ["a note."])
    assert "*From MNIST: plain fine-tuning 80.0 ± 1.0 %*" in text
    row = "+1.0 ± 0.5 | −20.0 ± 0.5 | diverged |"
    assert text.count(row) == len(ARMS)
    assert "| regularizer | rule | λ = 0.1 | λ = 1 | λ = 10 |" in text
    assert text.endswith("\n- a note.\n")


@pytest.mark.parametrize(
    ("gains", "text"),
    [
        ([1.0, -20.0, 0.5], "−20.0 … +1.0"),
        ([1.0, None, -20.0], "diverged … +1.0"),
        ([None, None], "diverged"),
    ],
)
def test_the_range_is_over_the_weights(gains, text):
    found = tables.ranges(_summaries(gains)).splitlines()
    assert "λ = 0.1 to " in found[0]
    assert found[2:] == [f"| {arm[0]}, {arm[1]} | {text} |" for arm in ARMS.values()]


def test_every_method_has_its_row_and_is_in_a_panel():
    assert {name for names in PANELS.values() for name in names} == set(ARMS)
    for name, arm in ARMS.items():
        method = METHODS[name]
        assert (method.on_conflict == "ignore") == (arm.rule == "plain sum")
        assert bool(method.mixed) == method.inner == (arm.rule == STEADY)


def test_the_figure_shows_means_and_writes_what_is_below(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *_, **__: drawn.append(figure)
    )
    figures.accuracy(tmp_path / "x.png", _summaries([1.0, -20.0, None]), "digits", 2)
    (figure,) = drawn
    assert len(figure.axes) == 3
    for panel in figure.axes:
        assert panel.get_ylim()[0] == -figures.DEPTH
        lines = [container.lines[0] for container in panel.containers]
        assert len(lines) == 3
        for line in lines:
            points = line.get_xydata()
            np.testing.assert_allclose(points[:, 0], [0.1, 1, 10])
            np.testing.assert_allclose(points[:2, 1], [1, -20])
        texts = [text.get_text() for text in panel.texts]
        assert texts.count("−20 ↓") == texts.count("diverged ↓") == 3


def test_the_heat_maps_title_follows_the_numbers():
    text = figures.conflict_finding([_cell("l2-sp", [0.5, 0.5], COSINE)])
    assert "50 %" in text
    assert "layer0" in text
    assert "−0.40" in text


def test_heat_maps_side_by_side_share_rows_labels_and_colour_bar():
    panels = Figure().subplots(1, 2, sharey=True)
    panels[0].set_ylabel("layer")
    cosine = np.array(COSINE[0])
    for panel in panels:
        figures.cosine_panel(panel, cosine, ("conv", "head"), steps=[25, 75])
    figures.cosine_bar(panels)
    assert len(panels[0].figure.axes) == 3
    for panel in panels:
        (mesh,) = panel.collections
        np.testing.assert_array_equal(mesh.get_array(), cosine.T)
        assert panel.get_xlim() == (0, 100)
        assert panel.get_ylim() == (1.5, -0.5)
        assert [text.get_text() for text in panel.texts] == ["−0.40", "+0.10"]
        assert panel.get_title() == panel.get_xlabel() == ""
    assert panels[0].get_ylabel() == "layer"


def test_what_the_pages_say_of_the_published_results():
    """README and ``docs/experiments.md`` say so in words; rewrite them if it fails."""
    folder = Path(__file__).parents[2] / "experiments" / "results" / "demo"
    about, *records = read(folder / "results.jsonl")
    found = [record for record in records if record["record"] == "summary"]
    assert not about["commit"].endswith("dirty")
    scratch = found[0]["accuracy"]["mean"]
    related, corrupted = (
        {
            (item["method"], item["weight"]): item["gain"]["mean"]
            if item["gain"]
            else -np.inf
            for item in found
            if item["source"] == source and item["method"] != "plain"
        }
        for source in ("MNIST", "MNIST, random labels")
    )
    steady = [name for name, arm in ARMS.items() if arm.rule == STEADY]
    for gains in (related, corrupted):
        for name in ARMS:
            own = [gains[name, weight] for weight in (0.1, 1.0, 100.0)]
            if name in steady:
                assert min(own) > -0.1
                assert own[-1] > max(own) - 0.1
            else:
                assert min(own) < -5
        for name in ("l2", "l2-layer", "kd", "kd-layer"):
            assert gains[name, 100.0] < -50
    others = [gain for (name, _), gain in related.items() if name not in steady]
    best = [related[name, 100.0] for name in steady]
    assert max(others) < min(best) < max(best) < 1.5
    assert all(2.5 < corrupted[name, 100.0] < 3.5 for name in steady)
    assert corrupted["l2", 0.1] > max(corrupted[name, 100.0] for name in steady)
    assert corrupted["l2", 1.0] < -50
    for weight in (0.1, 1.0):
        assert corrupted["kd-layer", weight] > 0.3 * corrupted["kd", weight]
    for item in found:
        if item["source"] == "MNIST, random labels" and item["accuracy"]:
            assert item["accuracy"]["mean"] < scratch
