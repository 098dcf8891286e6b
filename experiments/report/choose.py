"""The trial that each method chose by validation accuracy.

``chosen.md`` has all places. ``tally.md`` counts in how many of them each method is
above, equal or below.
"""

import numpy as np

from experiments.methods import PLAIN, method
from experiments.report.results import Results, choose
from experiments.report.tables import NOTHING, table
from experiments.statistics import Estimate, difference, number
from experiments.study import Place

NOTE = """\
Each method at the trial of the highest validation accuracy. Differences in test
accuracy, in points: mean ± 95 % t-interval, paired by seed; ▲ the interval is above
zero, = it covers zero, ▼ it is below. First over all places: how many, and the mean."""


def markdown(results: Results) -> dict[str, str]:
    """The text of both files, by name."""
    best, methods = choose(results.cells), results.config["methods"]

    def gap(place: Place, *names: str) -> Estimate | None:
        pair = [best[place, name] for name in names if (place, name) in best]
        if len(pair) < 2 or pair[0] is pair[1]:
            return None
        return difference(*(cell.record["accuracy"] for cell in pair))

    tally, parts = [], []
    for name in methods:
        for other in _others(name):
            gaps = [x for place in results.names if (x := gap(place, name, other))]
            if gaps:
                verdicts = [one.verdict for one in gaps]
                counts = (str(verdicts.count(sign)) for sign in "▲=▼")
                mean = number(np.mean([one.mean for one in gaps]))
                tally.append((method(name).label, method(other).label, *counts, mean))
    for place in results.names:
        rows = []
        for name in methods:
            if cell := best.get((place, name)):
                gaps = (gap(place, name, other) for other in _others(name))
                step, accuracy = cell.record["step"], np.mean(cell.record["accuracy"])
                texts = cell.trial, str(step), f"{accuracy:.1f}", *map(_interval, gaps)
                rows.append((method(name).label, *texts))
        headings = "method", "chosen", "step", "%", "minus its plain sum", "minus plain"
        parts += [f"*{results.title(place)}*", table(headings, rows, left=2)]
    first = table(("method", "minus", "▲", "=", "▼", "mean"), tally, left=2)
    return {
        "chosen.md": "\n\n".join([NOTE, first, *parts]) + "\n",
        "tally.md": first + "\n",
    }


def _others(name: str) -> tuple[str, str]:
    """The baselines of a method: its regularizers' plain sum, and plain fine-tuning."""
    regularizers, slash, _ = name.partition("/")
    return f"{regularizers}/sum" if slash else name, PLAIN


def _interval(gap: Estimate | None) -> str:
    return (
        f"{number(gap.mean)} ± {gap.half_width:.1f} {gap.verdict}" if gap else NOTHING
    )
