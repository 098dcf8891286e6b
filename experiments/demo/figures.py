"""The figures: accuracy against λ, and a heat map of conflict, layer against step."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.demo.compared import ARMS, PANELS, PAPER, STEADY, SUM
from experiments.demo.results import Summary
from experiments.demo.tables import number, sources, weights
from experiments.finetune import Cell
from experiments.panels import cosine_bar, cosine_panel, legend

# Colours by Okabe and Ito, told apart by colour-blind readers; widths, line styles and
# markers differ too, so that the figure can be read in greyscale.
STYLES = {
    SUM: {"color": "#000000", "linestyle": "--", "marker": "o", "linewidth": 1.6},
    PAPER: {"color": "#D55E00", "linestyle": "-", "marker": "s", "linewidth": 1.0},
    STEADY: {"color": "#0072B2", "linestyle": "-", "marker": "D", "linewidth": 3.2},
}
# The axis ends so many points below plain fine-tuning; what is lower is written there.
DEPTH = 12.0
# Large enough to be read where the page shows the figure 390 pixels wide.
SIZE = 14


def accuracy(path: Path, summaries: Sequence[Summary], target: str, seeds: int) -> None:
    """Draws accuracy minus plain fine-tuning against λ.

    One column of panels per source, one row per regularizer.

    Args:
      path: PNG file to write.
      summaries: what to draw.
      target: name of the target task, for the title.
      seeds: over how many the means are, for the title.
    """
    shown = sources(summaries)
    figure = Figure(figsize=(1 + 3.2 * len(shown), 9.6), layout="constrained")
    panels = figure.subplots(
        len(PANELS), len(shown), sharex=True, sharey=True, squeeze=False
    )
    for row, (regularizer, methods) in zip(panels, PANELS.items(), strict=True):
        for panel, source in zip(row, shown, strict=True):
            panel.axhline(0, color="0.4", linewidth=1)
            for method in methods:
                own = [
                    item
                    for item in summaries
                    if (item.source, item.method) == (source, method)
                ]
                _line(panel, own, ARMS[method].rule)
        row[0].set_ylabel(regularizer, fontsize=SIZE, fontweight="bold")
    _axes(panels, summaries)
    panels[0, 0].annotate(
        "plain fine-tuning = 0", (0.03, 0), xytext=(0, 16), va="bottom",
        xycoords=("axes fraction", "data"), textcoords="offset points",
        color="0.3", fontsize=SIZE - 2,
    )  # fmt: skip
    legend(figure, panels, fontsize=SIZE)
    figure.suptitle(
        f"Accuracy on {target} minus plain fine-tuning,\n"
        f"in points, against λ ({seeds} seeds)",
        fontsize=SIZE + 1,
    )
    figure.savefig(path, dpi=110)


def _line(panel: Axes, own: Sequence[Summary], rule: str) -> None:
    """Draws one method; means below the axis are written at its end."""
    places = [item.weight for item in own if item.weight is not None]
    means = np.array([item.gain.mean if item.gain else -np.inf for item in own])
    errors = [item.gain.standard_error if item.gain else 0.0 for item in own]
    style = STYLES[rule]
    panel.errorbar(
        places,
        np.maximum(means, -10 * DEPTH),
        errors,
        label=rule,
        markersize=7,
        capsize=3,
        elinewidth=1.2,
        zorder=3 if rule == STEADY else 2,
        **style,
    )
    for x, mean in zip(places, means, strict=True):
        if mean < -DEPTH:
            text = number(mean, ".0f") if np.isfinite(mean) else "diverged"
            level = 0.14 if rule == SUM else 0.02
            panel.text(
                x, level, f"{text} ↓", color=style["color"], fontsize=SIZE - 2,
                transform=panel.get_xaxis_transform(), ha="center", va="bottom",
                bbox={"facecolor": "white", "linewidth": 0, "pad": 1}, zorder=4,
            )  # fmt: skip


def _axes(panels: np.ndarray, summaries: Sequence[Summary]) -> None:
    ticks = weights(summaries)
    highest = max(
        item.gain.mean + item.gain.standard_error for item in summaries if item.gain
    )
    for panel in panels.flat:
        panel.set_xscale("log")
        panel.set_xlim(ticks[0] / 3, ticks[-1] * 5)  # with room for words at the end
        panel.set_ylim(-DEPTH, max(highest, 0) + 1)
        panel.set_xticks(ticks, [f"{weight:g}" for weight in ticks])
        panel.set_xticks([], minor=True)
        panel.tick_params(labelsize=SIZE - 1)
        panel.grid(axis="y", color="0.9")
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    for panel, source in zip(panels[0], sources(summaries), strict=True):
        panel.set_title(f"from {source}", fontsize=SIZE)
    for panel in panels[-1]:
        panel.set_xlabel("λ", fontsize=SIZE)


def conflict_finding(cells: Sequence[Cell]) -> str:
    """Says in words what the heat map shows, worked out from the numbers."""
    parts = []
    for cell in cells:
        by_layer = cell.trace.cosine.mean(axis=(0, 1))
        worst = int(by_layer.argmin())
        parts.append(
            f"from {cell.source}, in {100 * cell.trace.conflict.mean():.0f} % of steps "
            f"and layers, most in {cell.groups[worst]} "
            f"(mean cosine {by_layer[worst]:.2f})"
        )
    first = cells[0]
    text = f"{first.rule.label} at λ = {first.weight:g} pulls against the task:\n"
    return text + ";\n".join(parts).replace("-0", "−0")


def conflict(path: Path, cells: Sequence[Cell]) -> None:
    """Draws the cosine of the two gradients, layer against step, one panel per source.

    Args:
      path: PNG file to write.
      cells: one per source, all of one method and λ, that judges conflict by layer.
    """
    figure = Figure(figsize=(1.2 + 4.2 * len(cells), 3.4), layout="constrained")
    panels = figure.subplots(1, len(cells), sharey=True, squeeze=False)[0]
    for panel, cell in zip(panels, cells, strict=True):
        cosine_panel(panel, cell.trace.cosine.mean(axis=0), cell.groups)
        panel.set_title(f"from {cell.source}", fontsize=10)
        panel.set_xlabel("step")
    panels[0].set_ylabel("layer, input to output")
    cosine_bar(panels)
    figure.suptitle(conflict_finding(cells), fontsize=10)
    figure.savefig(path, dpi=150)
