"""Statistics over seeds, and the words of the heat map's title."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.demo import figures
from experiments.demo.results import summarize
from experiments.demo.tables import row
from experiments.finetune import Cell
from experiments.statistics import estimate
from experiments.train import Trace


def _cell(method, accuracy, cosine, weight=0.1, source="MNIST"):
    cosine = np.asarray(cosine, np.float32)
    groups = tuple(f"layer{i}" for i in range(cosine.shape[-1]))
    trace = Trace(np.zeros(cosine.shape[:2]), cosine, cosine < 0)
    return Cell(source, method, weight, np.asarray(accuracy), groups, trace, 1.0)


COSINE = [[[-0.5, 0.1], [-0.3, 0.1]], [[-0.5, 0.1], [-0.3, 0.1]]]


def test_estimate_against_the_formula():
    values = estimate(np.array([1.0, 2.0, 6.0]))
    assert values.mean == 3
    assert values.standard_error == pytest.approx(np.sqrt(7 / 3))


def test_the_gain_is_paired_by_seed():
    base = _cell("l2-sp", [0.50, 0.90], COSINE)
    others = [base, _cell("l2-sp", [0.0, 0.0], COSINE, weight=1.0)]
    summary = summarize(_cell("dtnh-layer", [0.51, 0.91], COSINE), others)
    assert summary.gain is not None
    assert summary.gain.mean == pytest.approx(1)
    assert summary.gain.standard_error == pytest.approx(0, abs=1e-12)
    assert summary.accuracy.standard_error == pytest.approx(20)
    assert summary.conflict_rate == 0.5
    assert summary.mean_cosine == pytest.approx(-0.15)
    assert row(summary)[1:] == ("0.1", "71.00 ± 20.00", "+1.00 ± 0.00", "50", "−0.15")


def test_without_its_baseline_there_is_no_gain():
    cell = _cell("dtnh-layer", [0.51, 0.91], COSINE)
    assert summarize(cell, [cell]).gain is None


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
