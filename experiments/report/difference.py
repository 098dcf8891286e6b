"""``difference.png``: accuracy minus plain fine-tuning against λ.

Colour-blind readers can tell the colours apart (most are from Okabe and Ito). Widths,
line styles and markers differ too, so that the figure can be read in greyscale.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.methods import RULES, method
from experiments.report.results import Cell, Results
from experiments.report.tables import DIVERGED, compared
from experiments.statistics import number
from experiments.study import Place

# By rule: colour, line style, marker and width. Other rules are only in the tables.
STYLES = {
    "sum": ("#000000", "--", "o", 1.6),
    "global": ("#B8860B", "-.", "^", 1.2),
    "layer": ("#D55E00", "-", "s", 1.2),
    "drop": ("#CC79A7", "--", "v", 1.2),
    "bloop": ("#56B4E9", "-.", "X", 1.6),
    "steady": ("#0072B2", "-", "D", 3.2),
}
# The axis ends this many points below plain fine-tuning; lower values are written out.
DEPTH = 12.0
COLUMNS = 5
# Font size, legible if a page shows two columns 390 pixels wide; height of a line of
# numbers and width of the longest; width and height of a panel. In points of print.
SIZE, LINE, LONGEST, WIDTH, HEIGHT = 14, 15, 56, 240, 170


def draw(folder: Path, results: Results) -> list[str]:
    """Draws the figures, each of places that differ in source; returns their names."""
    groups: dict[tuple[str, ...], list[Place]] = {}
    drawn = {c.place for name in results.methods for c in compared(results, name)}
    for place in filter(drawn.__contains__, results.names):
        key = place.target, place.optimizer, str(place.batch_size)
        groups.setdefault(key, []).append(place)
    names = []
    for key, places in groups.items():
        for first in range(0, len(places), COLUMNS):
            parts = ["difference", *(key if len(groups) > 1 else ())]
            parts += [str(first // COLUMNS + 1)] * bool(first)
            names.append(re.sub(r"[^\w.-]", "-", "-".join(parts)) + ".png")
            figure = _figure(results, places[first : first + COLUMNS])
            figure.savefig(folder / names[-1], dpi=110)
    return names


def lines(methods: Sequence[str]) -> dict[str, list[str]]:
    """The methods of each row of panels, by the regularizers of the row.

    There is a row for each plain sum. If a rule is not applied to the same
    regularizers, as steady is only applied to mixes, the row has the smallest mix that
    contains them.
    """
    pairs = [name.split("/") for name in methods]
    kinds = [kind for kind, rule in pairs if rule == "sum"] or [x for x, _ in pairs]
    found: dict[str, dict[str, str]] = {kind: {} for kind in kinds}
    # The smallest mix comes last, because the last one is kept.
    for mix, rule in sorted(pairs, key=lambda pair: -len(pair[0])):
        for kind, row in found.items():
            if set(mix.split("+")) >= set(kind.split("+")):
                row[rule] = f"{mix}/{rule}"
    rows = {kind: [row[x] for x in STYLES if x in row] for kind, row in found.items()}
    return {kind: row for kind, row in rows.items() if row}


def _figure(results: Results, places: Sequence[Place]) -> Figure:
    cells = {name: compared(results, name) for name in results.methods}
    rows = {
        kind: [
            {name: [c for c in cells[name] if c.place == place] for name in names}
            for place in places
        ]
        for kind, names in lines(results.methods).items()
    }
    # Room below the panels of a row, for as many lines of numbers as any panel has.
    room = [
        LINE * max(sum(any(map(_low, own)) for own in one.values()) for one in row)
        for row in rows.values()
    ]
    gains = [c.gain for c in results.cells if c.gain and c.weight and c.place in places]
    top = 1 + max([0, *(gain.mean + gain.standard_error for gain in gains)])
    weights = results.weights
    width = max(WIDTH, LONGEST * len(weights)) * len(places)
    size = 1 + width / 72, 3 + sum(HEIGHT + x for x in room) / 72
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(
        len(rows), len(places), sharex=True, sharey="row", squeeze=False,
        height_ratios=[HEIGHT + points for points in room],
    )  # fmt: skip
    entries = {}
    for i, (kind, row) in enumerate(rows.items()):
        for panel, drawn in zip(panels[i], row, strict=True):
            _axes(panel, weights, top, room[i])
            _lines(panel, drawn, kind, top)
            handles, labels = panel.get_legend_handles_labels()
            entries |= dict(zip(labels, handles, strict=True))
        label = fill(method(f"{kind}/sum").regularizer, 18)
        panels[i, 0].set_ylabel(label, fontsize=SIZE, fontweight="bold")
    for column, place in zip(panels.T, places, strict=True):
        source = fill(f"from {results.names[place][0]}", 26)
        column[0].set_title(source, fontsize=SIZE)
        column[-1].set_xlabel("λ", fontsize=SIZE)
    figure.legend(
        entries.values(), entries.keys(), loc="outside lower center", frameon=False,
        ncols=min(len(entries), max(2, 2 * len(places) - 2)), fontsize=SIZE,
    )  # fmt: skip
    title = (
        f"Accuracy on {results.names[places[0]][1]}{results.recipe(places[0])}, minus "
        f"plain fine-tuning, in points ({results.config['seeds']} seeds)"
    )
    figure.suptitle(
        fill(title, int(7.5 * size[0]), break_on_hyphens=False), fontsize=SIZE + 1
    )
    return figure


def _low(cell: Cell) -> bool:
    return cell.gain is None or cell.gain.mean < -DEPTH


def _axes(panel: Axes, weights: Sequence[float], top: float, room: float) -> None:
    """Sets the axes, with ``room`` in points of print below ``DEPTH``."""
    panel.set_xscale("log")
    panel.set_xlim(min(weights) / 3, max(weights) * 3)
    panel.set_xticks(weights, [f"{weight:g}" for weight in weights])
    panel.set_xticks([], minor=True)
    panel.set_ylim(-DEPTH - (room + 6) / HEIGHT * (DEPTH + top), top)
    panel.set_yticks(np.arange(-10, top, 5 if top < 20 else 10))
    panel.tick_params(labelsize=SIZE - 1)
    panel.grid(axis="y", color="0.9")
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines["left"].set_bounds(-DEPTH, top)
    panel.axhline(-DEPTH, color="0.8", linewidth=0.8)
    panel.axhline(0, color="0.45", linewidth=1.2, label="plain fine-tuning")


def _lines(panel: Axes, drawn: dict[str, list[Cell]], kind: str, top: float) -> None:
    """Draws a line for each method, down to ``DEPTH``, and the numbers below."""
    extent = (0, -DEPTH), 1, top + DEPTH
    above = Rectangle(*extent, transform=panel.get_yaxis_transform())
    written = 0
    for name, cells in drawn.items():
        mix, rule = name.split("/")
        colour, line, marker, width = STYLES[rule]
        of = "" if mix == kind else f": {method(name).regularizer}"
        points = panel.errorbar(
            [cell.weight or 0 for cell in cells],
            # Put diverged cells far below, so that the line leads there.
            [cell.gain.mean if cell.gain else -100 for cell in cells],
            [cell.gain.standard_error if cell.gain else 0 for cell in cells],
            color=colour, linestyle=line, marker=marker, linewidth=width, markersize=7,
            capsize=3, elinewidth=1.2, label=RULES[rule].label + of,
        )  # fmt: skip
        for artist in points.get_children():
            artist.set_clip_path(above)
        low = [cell for cell in cells if _low(cell)]
        written += bool(low)
        for cell in low:
            panel.annotate(
                f"{number(cell.gain.mean, 0)} ↓" if cell.gain else DIVERGED,
                (cell.weight or 0, -DEPTH), (0, -LINE * written), color=colour,
                textcoords="offset points", fontsize=SIZE - 2, ha="center",
            )  # fmt: skip
