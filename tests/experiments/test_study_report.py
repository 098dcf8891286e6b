"""The report: of hand-made records by hand, and of the measured ones that it quotes."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from rich.console import Console

from experiments import cells, configs
from experiments.errors import InputError
from experiments.report import chosen, conflict, difference, headline, publish, tables
from experiments.report.results import Results, choose, read_cells
from experiments.study import Place, Setting

MEASURED = Path(__file__).parents[2] / "experiments/results"
MEASURED_STUDIES = pytest.mark.parametrize(
    "name", [folder.name for folder in MEASURED.iterdir() if folder.is_dir()]
)
DIGITS, OTHER = Place("a", "t", "sgd", 10), Place("b", "t", "sgd", 10)
CONFIG = {
    "title": "By hand", "tasks": [["a", "t"], ["b", "t"]], "weights": [0.1, 1.0],
    "methods": ["plain", "frozen", "l2-sp/sum", "kd+l2-sp/steady"], "seeds": 3,
    "per_class": 3, "validation_per_class": 0, "learning_rates": [],
    "recipes": [{"steps": 8, "batch_size": 10, "optimizer": "sgd"}],
}  # fmt: skip
ABOUT = {
    "record": "about", "versions": {"jax": "1"}, "commit": "abc", "device": "cpu",
    "cpu_cores": 2, "config": CONFIG, "cells": 12,
}  # fmt: skip
MAP = {"groups": ["body", "head"], "conflict_rate": 0.25, "cosine": [[-0.5, 1]] * 4}


def record(
    method, weight=None, accuracy=None, place=DIGITS, learning_rate=0.01, **more
):
    names = {"record": "cell", "from": place.source.upper(), "to": "T"}
    setting = Setting(place, learning_rate, method, weight).record()
    return {**names, **setting} | ({"accuracy": accuracy} if accuracy else {}) | more


# Differences to plain at A: −1, −2, −3 and +3, +3, +3; then diverged, and not run. At B
# +1, 0, −1.
RECORDS = [
    record("plain", accuracy=[50.0, 60.0, 70.0]),
    record("frozen", accuracy=[40.0, 40.0, 40.0]),
    record("l2-sp/sum", 0.1, error="no memory"),
    record("l2-sp/sum", 0.1, [49.0, 58.0, 67.0], **MAP),
    record("l2-sp/sum", 1.0, diverged="loss is NaN"),
    record("kd+l2-sp/steady", 0.1, [53.0, 63.0, 73.0]),
    record("plain", accuracy=[20.0, 20.0, 20.0], place=OTHER),
    record("l2-sp/sum", 0.1, [21.0, 20.0, 19.0], OTHER, **MAP),
    record("l2-sp/sum", 1.0, error="no memory", place=OTHER),
]
RESULTS = Results(ABOUT, read_cells(RECORDS))


@pytest.fixture
def folder(tmp_path):
    lines = map(json.dumps, [ABOUT, *RECORDS])
    (tmp_path / "cells.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def measured(name):
    header, *records = cells.read(MEASURED / name / "cells.jsonl")
    return Results(header, read_cells(records))


def test_a_difference_is_to_plain_at_the_same_learning_rate():
    plain = [record("plain", accuracy=[x, x + 1], learning_rate=x) for x in (0.1, 0.2)]
    (*_, cell) = read_cells(
        [*plain, record("l2/sum", 1.0, [5.2, 6.2], learning_rate=0.2)]
    )
    assert cell.gain is not None
    assert cell.gain.mean == pytest.approx(5.0)
    (alone,) = read_cells([record("l2/sum", 1.0, [5.2, 6.2])])
    assert alone.gain is None


def test_table_by_hand():
    assert tables.by_place(RESULTS) == (
        "*A → T: plain fine-tuning 60.0 ± 5.8 %, frozen body 40.0 ± 0.0 %*\n\n"
        "| regularizer | rule | λ = 0.1 | λ = 1 |\n|---|---|--:|--:|\n"
        "| L2-SP | plain sum | −2.0 ± 0.6 | diverged |\n"
        "| KD + L2-SP | steady | +3.0 ± 0.0 | – |\n\n"
        "*B → T: plain fine-tuning 20.0 ± 0.0 %*\n\n"
        "| regularizer | rule | λ = 0.1 | λ = 1 |\n|---|---|--:|--:|\n"
        "| L2-SP | plain sum | +0.0 ± 0.6 | – |\n"
    )


def test_ranges_by_hand():
    assert tables.ranges(RESULTS).splitlines()[2:] == [
        "| L2-SP, plain sum | diverged … −2.0 | +0.0 |",
        "| KD + L2-SP, steady | +3.0 | – |",
    ]


def test_summary_by_hand():
    # Of three cells one is −3.5 standard errors: p = 0.037, with Holm 0.074.
    text = tables.summary(RESULTS)
    first = (
        "| L2-SP, plain sum | 3 | 2 | 2 | 1 | −2.0 | −1.0 | +0.0 | 1 | A → T, λ = 1 |"
    )
    assert first in text
    assert "? Yes: L2-SP, plain sum. No: KD + L2-SP, steady.\n" in text
    assert "21 % of\n  the cells" in text  # with two degrees of freedom


def test_the_title_names_what_differs_between_places():
    place = dataclasses.replace(DIGITS, optimizer="adam")
    two = Results(ABOUT, read_cells([RECORDS[0], record("plain", place=place)]))
    assert [*map(two.title, two.names)] == ["A → T, sgd", "A → T, adam"]


def test_chosen_by_validation_and_never_by_test():
    trials = [
        record("l2/sum", 0.1, [90.0, 90.0], validation=[50.0, 52.0]),
        record("l2/sum", 1.0, [70.0, 70.0], validation=[54.0, 56.0]),
        record("l2/sum", 10.0, [80.0, 80.0], validation=[55.0, 55.0]),
        record("l2/sum", 100.0, diverged="loss is NaN"),
    ]
    assert choose(read_cells(trials))[DIGITS, "l2/sum"].weight == 1.0


def test_rows_of_the_figure():
    demo = "l2-sp/sum", "l2-sp/layer", "l2/sum", "kd/sum", "l2-sp+l2/steady"
    assert difference.lines((*demo, "kd+l2-sp+l2/steady")) == {
        "l2-sp": ["l2-sp/sum", "l2-sp/layer", "l2-sp+l2/steady"],
        "l2": ["l2/sum", "l2-sp+l2/steady"],
        "kd": ["kd/sum", "kd+l2-sp+l2/steady"],
    }


def test_figures_show_the_numbers(monkeypatch, tmp_path):
    shown = _drawn(monkeypatch, tmp_path, RESULTS)
    assert [*shown] == ["difference.png", "conflict-l2-sp.png"]
    first, second = shown["difference.png"].axes
    means = {x.get_label(): x[0].get_ydata(orig=False) for x in first.containers}
    np.testing.assert_allclose(means["plain sum"], [-2.0, -100.0])
    np.testing.assert_allclose(means["steady: KD + L2-SP"], [3.0])
    assert [text.get_text() for text in first.texts] == ["diverged"]
    assert second.get_title() == "from B"
    heat = shown["conflict-l2-sp.png"].axes[0]
    assert [text.get_text() for text in heat.texts] == ["−0.50", "+1.00"]
    assert heat.get_title() == "A → T\nλ = 0.1, negative in 25 %"
    assert heat.get_xlim() == (0, 8)
    assert heat.get_ylim() == (1.5, -0.5)


def test_figures_are_whole(monkeypatch, tmp_path):
    draws = headline.draw, difference.draw, conflict.draw
    shown = _drawn(monkeypatch, tmp_path, measured("never-hurt"), draws)
    for figure in shown.values():
        inside = figure.bbox.padded(1)
        for text in figure.findobj(Text):
            if text.get_visible() and text.get_text().strip():
                box = text.get_window_extent()
                assert inside.contains(*box.min), text
                assert inside.contains(*box.max), text
                assert "mathdefault" not in text.get_text(), text
    assert "λ = 1," in shown["conflict-kd.png"].axes[0].get_title()


def _drawn(monkeypatch, folder, results, draws=(difference.draw, conflict.draw)):
    """The figures by file name, as they are saved."""
    shown = {}

    def keep(figure, path, **_):
        figure.draw_without_rendering()
        shown[path.name] = figure

    monkeypatch.setattr(Figure, "savefig", keep)
    names = [name for draw in draws for name in draw(folder, results)]
    assert [*shown] == names
    return shown


def test_a_report_names_the_commits_of_all_its_cells():
    own = [{**one, "commit": one["source"]} for one in RECORDS[1:]]
    assert Results(ABOUT, read_cells([*RECORDS[:1], *own])).commits == ["abc", "a", "b"]
    assert Results(ABOUT, []).commits == ["abc"]


@MEASURED_STUDIES
def test_committed_results_are_whole_and_of_the_study(name):
    header, *records = cells.read(MEASURED / name / "cells.jsonl")
    study = configs.study(name)
    assert header["config"] == json.loads(json.dumps(study.settings()))
    done = [Setting.of(record) for record in records]
    assert len(done) == len(set(done)) == len(list(study.cells()))


@MEASURED_STUDIES
def test_committed_tables_are_what_the_code_writes(name):
    results = measured(name)
    written = {
        "table.md": tables.by_place(results),
        "ranges.md": tables.ranges(results),
        "summary.md": tables.summary(results),
        "headline.md": headline.markdown(results),
    }
    if results.config["validation_per_class"]:
        written |= chosen.markdown(results)
    for table, text in written.items():
        assert (MEASURED / name / table).read_text() == text


def test_the_headline_shows_the_first_source_and_the_worst(monkeypatch, tmp_path):
    assert headline.draw(tmp_path, RESULTS) == []  # it has no mix with weight decay
    places = [Place(source, "t", "sgd", 10) for source in "abc"]
    places.append(Place("a", "t", "adam", 10))
    records = []
    for place, fall in zip(places, (0.9, 2.0, 9.0, 20.0), strict=True):
        records.append(record("plain", None, [50.0, 60.0, 70.0], place))
        for weight in CONFIG["weights"]:
            lower = [50 - fall, 60 - fall, 71 - fall]
            records.append(record("l2-sp/sum", weight, lower, place))
            records.append(record("l2-sp+l2/steady", weight, [51.0, 61.0, 72.0], place))
    records[1] = record("l2-sp/sum", 0.1, diverged="loss is NaN", place=places[0])
    methods = ["plain", "l2-sp/sum", "l2-sp+l2/steady"]
    about = {**ABOUT, "config": {**CONFIG, "methods": methods}}
    results = Results(about, read_cells(records))
    shown = _drawn(monkeypatch, tmp_path, results, [headline.draw])
    panels = shown["headline.png"].axes
    assert [panel.get_title() for panel in panels] == ["from A\nto T", "from C\nto T"]
    falls = [panel.lines[0].get_ydata() for panel in panels]
    np.testing.assert_allclose(falls, [[-100, -1.7 / 3], [-26 / 3, -26 / 3]])
    assert headline.markdown(results).splitlines()[2:] == [
        "| L2-SP, plain sum | 8 | 7 | diverged | – | −0.6 |",
        "| L2-SP + weight decay, steady | 8 | 0 | +1.3 | +1.3 | +1.3 |",
    ]


def test_numbers_are_whole_in_a_terminal_of_80_columns():
    row = "KD + L2-SP + weight decay", "DTNH (global)", *["−76.3 ± 0.4"] * 4
    headings = "regularizer", "rule", "λ = 0.1", "λ = 1", "λ = 10", "λ = 100"
    out = io.StringIO()
    made = tables.terminal("title", headings, [row], left=2)
    Console(file=out, width=80).print(made)
    assert out.getvalue().count("−76.3 ± 0.4 ") == 4
    assert "decay" in out.getvalue()


def test_publish_writes_and_prints_a_study_in_part(folder):
    out = io.StringIO()
    publish(folder, Console(file=out, width=80))
    report = (folder / "report.md").read_text()
    assert "- A → T, L2-SP, plain sum, λ = 1: loss is NaN\n" in report
    assert "- B → T, L2-SP, plain sum, λ = 1: no memory\n" in report
    assert "- 4 cells have not run yet.\n" in report
    assert "![difference](difference.png)" in report
    assert not (folder / "chosen.md").exists()
    assert (folder / "difference.png").stat().st_size > 10_000
    assert any(x.rstrip().endswith("diverged") for x in out.getvalue().splitlines())
    assert max(map(len, out.getvalue().splitlines())) <= 80


def test_a_study_without_a_cell_yet_is_reported(folder):
    (folder / "cells.jsonl").write_text(json.dumps(ABOUT) + "\n")
    publish(folder, Console(quiet=True))
    assert "- 12 cells have not run yet.\n" in (folder / "report.md").read_text()


def test_a_study_without_a_weighted_cell_yet_is_reported():
    results = Results(ABOUT, read_cells([record("plain", None, [50.0, 60.0, 70.0])]))
    assert results.weights == CONFIG["weights"]
    assert f"λ = {min(results.weights):g} to" in tables.ranges(results)


def test_publish_says_what_is_wrong(tmp_path, folder):
    with pytest.raises(InputError, match="no study in"):
        publish(tmp_path / "none", Console(quiet=True))
    damaged = (folder / "cells.jsonl").read_text().replace('"from"', '"form"')
    (folder / "cells.jsonl").write_text(damaged)
    with pytest.raises(InputError, match="is damaged, or of another version: KeyError"):
        publish(folder, Console(quiet=True))
