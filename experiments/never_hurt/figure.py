"""The figure of the study: accuracy less plain fine-tuning's against λ."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.methods import METHODS
from experiments.never_hurt.differences import Difference, pair_of
from experiments.panels import legend
from experiments.statistics import estimate

# What the figure can show and still be read: a line style and a marker each, so that
# it can be read in greyscale too; colours by Okabe and Ito.
SHOWN = {
    "l2-sp": ("#000000", "-", "o"),
    "dtnh-layer": ("#E69F00", "-", "s"),
    "cap-0.3": ("#56B4E9", "--", "^"),
    "drop": ("#D55E00", "--", "v"),
    "drop-cap-0.3": ("#0072B2", "-", "D"),
    "inner-drop-cap-3": ("#009E73", ":", "P"),
}
# Points below plain fine-tuning at which the figure's axis ends.
DEPTH = 30


def draw(
    path: Path, records: Sequence[dict[str, Any]], found: Sequence[Difference]
) -> None:
    """Draws accuracy less plain's against λ: one line a rule, one panel a pair."""
    pairs = list(dict.fromkeys(one.pair for one in found))
    columns = min(5, len(pairs))
    rows = -(-len(pairs) // columns)
    sheet = Figure(figsize=(2.9 * columns, 2.7 * rows + 0.9), layout="constrained")
    panels = sheet.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    plain = {pair_of(cell): cell for cell in records if cell.get("method") == "plain"}
    for panel, pair in zip(panels.flat, pairs, strict=False):
        base = estimate(np.asarray(plain[pair]["accuracy"]))
        panel.axhspan(-base.standard_error, base.standard_error, color="0.88", zorder=0)
        panel.axhline(0, color="0.4", linewidth=0.8)
        for rule, (colour, line, marker) in SHOWN.items():
            own = [one for one in found if (one.pair, one.rule) == (pair, rule)]
            own = [(one.weight, one.gain) for one in own if one.gain]
            if not own:
                continue
            panel.errorbar(
                [weight for weight, _ in own],
                [gain.mean for _, gain in own],
                [gain.standard_error for _, gain in own],
                color=colour,
                linestyle=line,
                marker=marker,
                markersize=4,
                linewidth=1.3,
                label=METHODS[rule].label,
            )
        panel.set_xscale("log")
        panel.set_title(
            f"{pair[1]} → {pair[2]}\nplain {base.mean:.1f} %", fontsize="small"
        )
    lowest = min((one.gain.mean for one in found if one.gain), default=-1.0)
    panels[0, 0].set_ylim(bottom=max(lowest - 2, -DEPTH))
    for panel in panels.flat[len(pairs) :]:
        panel.remove()
    for panel in panels[-1]:
        panel.set_xlabel("weight λ of the regularizer")
    sheet.supylabel("accuracy less plain fine-tuning's, points")
    legend(sheet, panels)
    sheet.suptitle(_finding(found), fontsize="medium")
    sheet.savefig(path, dpi=130)


def _finding(found: Sequence[Difference]) -> str:
    """The title: what the lines show, in numbers."""
    parts = []
    for rule in ("l2-sp", "dtnh-layer", "inner-drop-cap-3"):
        own = [one for one in found if one.rule == rule]
        if own:
            parts.append(
                f"{METHODS[rule].label}: {sum(one.below(2) for one in own)} "
                f"of {len(own)}"
            )
    return "Cells more than 2 standard errors below plain fine-tuning. " + "; ".join(
        parts
    )
