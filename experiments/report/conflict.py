"""``conflict-REGULARIZER.png``: where and when the plain sum's gradients conflict."""

import math
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtnh_jax import plot_conflict
from experiments.methods import method
from experiments.report.results import Cell, Results
from experiments.statistics import number

COLUMNS = 3


def draw(folder: Path, results: Results) -> list[str]:
    """Draws a figure per plain sum, with a panel per source; returns their names."""
    names = []
    for name in (name for name in results.methods if name.endswith("/sum")):
        # For each source, the cell with λ nearest 1 at its first place that has cells.
        found: dict[str, Cell] = {}
        for place in results.names:
            cells = [c for c in results.of(name, place) if "cosine" in c.record]
            cells.sort(key=lambda cell: abs(math.log(cell.weight or 1)))
            for cell in cells[:1]:
                found.setdefault(place.source, cell)
        if found:
            names.append(f"conflict-{name.removesuffix('/sum').replace('+', '-')}.png")
            _figure(results, [*found.values()]).savefig(folder / names[-1], dpi=130)
    return names


def _figure(results: Results, cells: list[Cell]) -> Figure:
    groups = cells[0].record["groups"]
    rows = -(-len(cells) // COLUMNS)
    columns = -(-len(cells) // rows)
    width = 1.2 + 0.09 * max(map(len, groups)) + 2.8 * columns
    size = width, 1 + rows * (1.3 + 0.24 * len(groups))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for panel in panels.flat[len(cells) :]:
        panel.set_axis_off()
    steps = {
        (recipe["optimizer"], recipe["batch_size"]): recipe["steps"]
        for recipe in results.config["recipes"]
    }
    for i, (panel, cell) in enumerate(zip(panels.flat, cells, strict=False)):
        _panel(panel, cell, steps[cell.place.optimizer, cell.place.batch_size])
        lowest = i + columns >= len(cells)
        # Each plot inverts the shared axis again.
        panel.set(xlabel="step" if lowest else "", ylabel="")
        panel.set_ylim(len(groups) - 0.5, -0.5)
        panel.tick_params(labelsize=10, labelbottom=lowest)
        title = fill(" → ".join(results.names[cell.place]), 30)
        share = f"negative in {100 * cell.record['conflict_rate']:.0f} %"
        panel.set_title(f"{title}\n{cell.trial}, {share}", fontsize=11)
    bar = figure.colorbar(panels[0, 0].collections[0], ax=panels, shrink=0.9)
    bar.set_label("cosine (dark, below 0: conflict)", fontsize=10)
    title = (
        f"{method(cells[0].method).label}{results.recipe(cells[0].place)}: cosine of "
        "regularizer and empirical gradient by layer; numbers are means over steps"
    )
    figure.suptitle(fill(title, int(10 * width)), fontsize=12)
    return figure


def _panel(panel: Axes, cell: Cell, steps: int) -> None:
    """Draws one heat map, without its own colour bar and title."""
    cosine, groups = np.asarray(cell.record["cosine"]), cell.record["groups"]
    reports = [
        {group: {"cosine": value} for group, value in zip(groups, row, strict=True)}
        for row in cosine
    ]
    # Each row is the mean over an equal number of steps; this is their middle.
    middles = (np.arange(len(cosine)) + 0.5) * steps / len(cosine)
    plot_conflict(reports, steps=middles, ax=panel)
    own_bar = panel.collections[0].colorbar
    assert own_bar is not None
    own_bar.remove()
    for y, mean in enumerate(cosine.mean(axis=0)):
        panel.annotate(
            number(mean, 2), (1.02, y), xycoords=("axes fraction", "data"),
            va="center", fontsize=9, annotation_clip=False,
        )  # fmt: skip
