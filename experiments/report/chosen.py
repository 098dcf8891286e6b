"""The trial that each method chose by validation accuracy.

``chosen.md`` has all places, and ``places.md`` only their differences. ``tally.md``
counts in how many places each method is above, equal or below.
"""

from collections.abc import Mapping

import numpy as np

from experiments.methods import PLAIN, method
from experiments.report.results import Cell, Results, choose
from experiments.report.tables import NOTHING, table
from experiments.statistics import Estimate, difference, number
from experiments.study import Place

NOTE = """\
Each method at the trial of the highest validation accuracy. Differences in test
accuracy, in points: mean ± 95 % t-interval, paired by seed; ▲ the interval is above
zero, = it covers zero, ▼ it is below. First over all places: how many, and the mean."""


Best = Mapping[tuple[Place, str], Cell]


def markdown(results: Results) -> dict[str, str]:
    """The texts of the files, by name."""
    best = choose(results.cells)
    tally = _tally(results, best)
    places = [_place(results, best, place) for place in results.names]
    return {
        "chosen.md": "\n\n".join([NOTE, tally, *places]) + "\n",
        "places.md": _differences(results, best) + "\n",
        "tally.md": tally + "\n",
    }


def _tally(results: Results, best: Best) -> str:
    rows = []
    for name in results.config["methods"]:
        for other in _others(name):
            gaps = [_gap(best, place, name, other) for place in results.names]
            if known := [gap for gap in gaps if gap]:
                verdicts = [gap.verdict for gap in known]
                counts = (str(verdicts.count(sign)) for sign in "▲=▼")
                mean = number(np.mean([gap.mean for gap in known]))
                rows.append((method(name).label, method(other).label, *counts, mean))
    return table(("method", "minus", "▲", "=", "▼", "mean"), rows, left=2)


def _place(results: Results, best: Best, place: Place) -> str:
    rows = []
    for name in results.config["methods"]:
        if cell := best.get((place, name)):
            step, accuracy = cell.record["step"], np.mean(cell.record["accuracy"])
            gaps = (_interval(best, place, name, other) for other in _others(name))
            texts = cell.trial, str(step), f"{accuracy:.1f}", *gaps
            rows.append((method(name).label, *texts))
    headings = "method", "chosen", "step", "%", "minus its plain sum", "minus plain"
    return f"*{results.title(place)}*\n\n{table(headings, rows, left=2)}"


def _differences(results: Results, best: Best) -> str:
    """Methods by places; for plain fine-tuning, the accuracy."""
    rows = []
    for name in results.config["methods"]:
        texts = [_interval(best, place, name, PLAIN) for place in results.names]
        if name == PLAIN:
            cells = (best.get((place, name)) for place in results.names)
            texts = [
                f"{np.mean(x.record['accuracy']):.1f} %" if x else NOTHING
                for x in cells
            ]
        rows.append((method(name).label, *texts))
    titles = map(results.title, results.names)
    return table(("points minus plain fine-tuning", *titles), rows)


def _gap(best: Best, place: Place, name: str, other: str) -> Estimate | None:
    pair = [best[place, each] for each in (name, other) if (place, each) in best]
    if len(pair) < 2 or pair[0] is pair[1]:
        return None
    return difference(*(cell.record["accuracy"] for cell in pair))


def _interval(best: Best, place: Place, name: str, other: str) -> str:
    gap = _gap(best, place, name, other)
    if gap is None:
        return NOTHING
    return f"{number(gap.mean)} ± {gap.half_width:.1f} {gap.verdict}"


def _others(name: str) -> tuple[str, str]:
    """The baselines of a method: its regularizers' plain sum, and plain fine-tuning."""
    regularizers, slash, _ = name.partition("/")
    return f"{regularizers}/sum" if slash else name, PLAIN
