"""The figures: accuracy by method, and a heat map of conflict, layer against step."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.finetune import Cell
from experiments.panels import cosine_bar, cosine_panel, legend
from experiments.statistics import estimate

# Okabe and Ito's colours, told apart by colour-blind readers; the order alternates dark
# and light and the markers differ, so that the figure can be read in greyscale too.
STYLES = (("#0072B2", "o"), ("#E69F00", "s"), ("#000000", "^"), ("#56B4E9", "D"))

# The accuracy axis covers at most this many points below the best seed.
SPAN = 40.0


def _sources(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.source for cell in cells))


def accuracy(path: Path, cells: Sequence[Cell], scratch: Cell, target: str) -> None:
    """Draws held-out accuracy by method, one panel a source.

    Args:
      path: PNG file to write.
      cells: what to draw; seeds are the small dots, mean and standard error the large.
      scratch: the cell from random weights, drawn as a line.
      target: name of the target task, for the title.
    """
    sources = _sources(cells)
    labels = list(dict.fromkeys(cell.rule.label for cell in cells))
    weights = sorted({cell.weight for cell in cells if cell.weight is not None})
    height = 1.6 + 0.28 * len(labels) * max(len(weights), 1)
    figure = Figure(figsize=(1.6 + 3.6 * len(sources), height), layout="constrained")
    panels = figure.subplots(1, len(sources), sharex=True, sharey=True, squeeze=False)[
        0
    ]
    # One collapsed cell would squeeze all the others: it is named at the edge instead.
    highest = max(100 * float(cell.accuracy.max()) for cell in cells)
    shown = [
        100 * float(cell.accuracy.min())
        for cell in (*cells, scratch)
        if 100 * float(cell.accuracy.mean()) > highest - SPAN
    ]
    left = max(min(shown), highest - SPAN)
    for panel, source in zip(panels, sources, strict=True):
        here = [cell for cell in cells if cell.source == source]
        for cell in here:
            place = weights.index(cell.weight) if cell.weight in weights else None
            shift = 0.0 if place is None else (place - (len(weights) - 1) / 2) * 0.36
            colour, marker = ("#000000", "D") if place is None else STYLES[place % 4]
            y = labels.index(cell.rule.label) + shift
            points = estimate(100 * cell.accuracy)
            if points.mean < left:
                panel.annotate(
                    f"{points.mean:.0f} %"
                    + ("" if cell.weight is None else f" at λ = {cell.weight:g}"),
                    (left - 1.5, y),
                    (left + 3, y),
                    arrowprops={"arrowstyle": "->", "color": colour},
                    va="center",
                    fontsize=8,
                )
                continue
            panel.plot(
                100 * cell.accuracy,
                np.full(cell.accuracy.size, y + 0.14),
                marker,
                color=colour,
                markersize=3,
                alpha=0.5,
                markeredgewidth=0,
            )
            panel.errorbar(
                points.mean,
                y,
                xerr=points.standard_error,
                fmt=marker,
                color=colour,
                markeredgecolor="black",
                ecolor="black",
                markersize=7,
                capsize=3,
                label=None if place is None else f"λ = {cell.weight:g}",
            )
        level = 100 * float(scratch.accuracy.mean())
        panel.axvline(level, color="0.4", linestyle=":", label="from scratch")
        for cell in here:
            if cell.rule.towards is None:
                level = 100 * float(cell.accuracy.mean())
                panel.axvline(level, color="0.4", linestyle="--", label=cell.rule.label)
        panel.set_title(f"from {source}", fontsize=10)
        panel.set_xlabel("held-out accuracy, %")
        panel.set_yticks(range(len(labels)), labels)
        panel.grid(axis="x", color="0.9")
        panel.set_axisbelow(True)
        panel.set_xlim(left - 1.5, highest + 1.5)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    legend(figure, panels)
    figure.suptitle(
        f"Fine-tuning to {target}: mean ± standard error, {scratch.accuracy.size} seeds"
    )
    figure.savefig(path, dpi=150)


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
    """Draws the cosine of the two gradients, layer against step, one panel a source.

    Args:
      path: PNG file to write.
      cells: one a source, all of one method and λ, that judges conflict by layer.
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
