"""What plain sums lose as λ grows, and the steady rule does not, at a glance.

README shows ``headline.png`` and ``headline.md``.
"""

from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.methods import method
from experiments.report.results import Results
from experiments.report.tables import DIVERGED, NOTHING, compared, summarize, table
from experiments.study import Place

# The lower end of the axis, in points. Lines may lead out of it.
LOWEST = -30.0
# Font size in points of print, legible if a page shows the figure 390 pixels wide;
# width and height of the figure in inches.
SIZE, WIDTH, HEIGHT = 15, 7.2, 4.8
# Line style and marker of the plain sums, in order.
SUMS = ("--", "o"), ("-.", "s"), (":", "^")
HEADINGS = "", "cells", "below by > 2 s.e.", "lowest", "mean", "highest"


def draw(folder: Path, results: Results) -> list[str]:
    """Draws the figure, if the study has the cells for it; returns its name.

    Shows two pairs of source and target side by side, with the first optimizer: the
    study's first pair, and the one on which the plain sums fall lowest.
    """
    sums = [name for name in results.methods if name.endswith("/sum")]
    sums = [name for name in sums if "+" not in name][: len(SUMS)]
    mixes = [name for name in results.methods if name.endswith("+l2/steady")]
    places = [x for x in results.names if _same(x, next(iter(results.names)))]
    if not sums or not mixes or len(places) < 2:
        return []
    steady = min(mixes, key=len)

    def lowest(place: Place) -> float:
        return sum(_means(results, name, place).sum() for name in sums)

    shown = places[0], min(places[1:], key=lowest)
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, place in zip(panels, shown, strict=True):
        for name, (line, marker) in zip(sums, SUMS, strict=False):
            _line(panel, results, name, place, "0.35", line, marker, 1.6)
        _line(panel, results, steady, place, "#0072B2", "-", "D", 4.0)
        panel.axhline(0, color="black", linewidth=1)
        panel.set_xscale("log")
        weights = results.weights
        ticks = weights[:: 1 + len(weights) // 5]
        panel.set_xticks(ticks, [f"{weight:g}" for weight in ticks])
        panel.set_xticks([], minor=True)
        panel.set_ylim(LOWEST, 10)
        source, target = results.names[place]
        title = fill(f"from {source}", 22) + "\n" + fill(f"to {target}", 22)
        panel.set_title(title, fontsize=SIZE)
        panel.set_xlabel("regularizer weight λ", fontsize=SIZE)
        panel.tick_params(labelsize=SIZE - 2)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("accuracy minus plain\nfine-tuning, points", fontsize=SIZE)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=2, frameon=False,
        fontsize=SIZE - 1,
    )  # fmt: skip
    figure.savefig(folder / "headline.png", dpi=150)
    return ["headline.png"]


def markdown(results: Results) -> str:
    """``headline.md``: plain sums and the steady rule over all places and λ."""
    rows = []
    for name, row in summarize(results).items():
        rule = name.partition("/")[2]
        if rule == "sum" or rule.startswith("steady"):
            label, cells, _, two, _, lowest, mean, highest, diverged, _ = row
            if diverged != "0":
                lowest, mean = DIVERGED, NOTHING
            rows.append((label, cells, two, lowest, mean, highest))
    return table(HEADINGS, rows) + "\n"


def _same(place: Place, first: Place) -> bool:
    """Whether two places differ only in source and target."""
    return (place.optimizer, place.batch_size) == (first.optimizer, first.batch_size)


def _means(results: Results, name: str, place: Place) -> np.ndarray:
    cells = [cell for cell in compared(results, name) if cell.place == place]
    # Put diverged cells far below, so that the line leads there.
    return np.array([cell.gain.mean if cell.gain else -100.0 for cell in cells])


def _line(
    panel: Axes,
    results: Results,
    name: str,
    place: Place,
    colour: str,
    line: str,
    marker: str,
    width: float,
) -> None:
    cells = [cell for cell in compared(results, name) if cell.place == place]
    weights = [cell.weight or 0 for cell in cells]
    means = _means(results, name, place)
    errors = np.array([cell.gain.standard_error if cell.gain else 0 for cell in cells])
    rule = "plain sum" if name.endswith("/sum") else "steady rule"
    label = f"{method(name).regularizer}, {rule}"
    panel.plot(
        weights, means, color=colour, linestyle=line, marker=marker, linewidth=width,
        markersize=8, label=fill(label, 26),
    )  # fmt: skip
    panel.fill_between(weights, means - errors, means + errors, color=colour, alpha=0.2)
