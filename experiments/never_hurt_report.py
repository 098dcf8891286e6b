"""What the study `never-hurt` found: the tables, and a figure for each optimizer.

Reads nothing but the records of ``cells.jsonl``, so that a study half done can be
reported too.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.markdown import Markdown

from experiments.methods import METHODS
from experiments.report import provenance
from experiments.results import Estimate, estimate

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


@dataclasses.dataclass(frozen=True)
class Difference:
    """One rule at one λ, less plain fine-tuning on the same seeds, in points.

    Attributes:
      pair: group, name of the source, target and optimizer.
      rule: key in ``METHODS``.
      weight: λ.
      gain: mean and standard error over seeds; ``None`` where training diverged.
    """

    pair: tuple[str, str, str, str]
    rule: str
    weight: float
    gain: Estimate | None

    def below(self, errors: float) -> bool:
        """Whether it lies more than so many standard errors below plain."""
        if self.gain is None:
            return True
        return self.gain.mean < -errors * self.gain.standard_error

    def above(self, errors: float) -> bool:
        """Whether it lies more than so many standard errors above plain."""
        if self.gain is None:
            return False
        return self.gain.mean > errors * self.gain.standard_error


def differences(records: Iterable[dict[str, Any]]) -> list[Difference]:
    """The paired differences, in the order of the records."""
    cells = [record for record in records if record["record"] == "cell"]
    plain = {_pair(cell): cell for cell in cells if cell["method"] == "plain"}
    found = []
    for cell in cells:
        if cell["method"] == "plain":
            continue
        gain = None
        if "accuracy" in cell:
            base = np.asarray(plain[_pair(cell)]["accuracy"])
            gain = estimate(np.asarray(cell["accuracy"]) - base)
        found.append(Difference(_pair(cell), cell["method"], cell["weight"], gain))
    return found


def _pair(cell: dict[str, Any]) -> tuple[str, str, str, str]:
    return cell["group"], cell["from"], cell["target"], cell["optimizer"]


def suitable(found: Sequence[Difference]) -> dict[tuple, float]:
    """The best gain of any rule, for each pair that suits and each λ at which one does.

    A pair suits if the plain sum, at the best λ for it, gains a point and two standard
    errors; so must the best rule at a λ, or shares of its gain would be noise.
    """
    gains = [one for one in found if one.gain and one.gain.mean >= 1 and one.above(2)]
    pairs = {one.pair for one in gains if one.rule == "l2-sp"}
    best: dict[tuple, float] = {}
    for one in gains:
        if one.gain and one.pair in pairs:
            key = (one.pair, one.weight)
            best[key] = max(best.get(key, 0.0), one.gain.mean)
    return best


def _share(found: Sequence[Difference], best: dict[tuple, float]) -> float | None:
    """The mean share of the best gain that one rule keeps in the suitable cells."""
    shares = [
        (one.gain.mean if one.gain else -best[one.pair, one.weight])
        / best[one.pair, one.weight]
        for one in found
        if (one.pair, one.weight) in best
    ]
    return float(np.mean(shares)) if shares else None


def _number(value: float, form: str = "+.1f") -> str:
    return format(value, form).replace("-", "−")


def summary(found: Sequence[Difference], group: str, optimizer: str) -> list[str]:
    """One line a rule: how often and how far below plain, and what it keeps."""
    here = [one for one in found if (one.pair[0], one.pair[3]) == (group, optimizer)]
    best = suitable(here)
    lines = [
        "| rule | below plain by > 1 s.e. | by > 2 s.e. | worst cell | gain kept |",
        "|---|--:|--:|--:|--:|",
    ]
    for rule in dict.fromkeys(one.rule for one in here):
        own = [one for one in here if one.rule == rule]
        diverged = sum(one.gain is None for one in own)
        worst = min((one.gain.mean for one in own if one.gain), default=0.0)
        share = _share(own, best)
        lines.append(
            f"| {METHODS[rule].label} "
            f"| {sum(one.below(1) for one in own)} of {len(own)} "
            f"| {sum(one.below(2) for one in own)} "
            f"| {f'diverged ({diverged}), ' if diverged else ''}{_number(worst)} "
            f"| {'–' if share is None else _number(100 * share, '.0f') + ' %'} |"
        )
    return lines


def detail(found: Sequence[Difference], pair: tuple) -> list[str]:
    """One line a rule, one column a λ: the paired difference to plain, in points."""
    here = [one for one in found if one.pair == pair]
    weights = sorted({one.weight for one in here})
    lines = [
        "| rule | " + " | ".join(f"λ = {weight:g}" for weight in weights) + " |",
        "|---|" + "--:|" * len(weights),
    ]
    for rule in dict.fromkeys(one.rule for one in here):
        texts = {
            one.weight: f"{_number(one.gain.mean)} ± {one.gain.standard_error:.1f}"
            if one.gain
            else "diverged"
            for one in here
            if one.rule == rule
        }
        row = " | ".join(texts.get(weight, "–") for weight in weights)
        lines.append(f"| {METHODS[rule].label} | {row} |")
    return lines


def figure(
    path: Path, records: Sequence[dict[str, Any]], found: Sequence[Difference]
) -> None:
    """Draws accuracy less plain's against λ: one line a rule, one panel a pair."""
    pairs = list(dict.fromkeys(one.pair for one in found))
    columns = min(5, len(pairs))
    rows = -(-len(pairs) // columns)
    sheet = Figure(figsize=(2.9 * columns, 2.7 * rows + 0.9), layout="constrained")
    panels = sheet.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    plain = {_pair(cell): cell for cell in records if cell.get("method") == "plain"}
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
    handles, labels = panels[0, 0].get_legend_handles_labels()
    sheet.legend(handles, labels, loc="outside lower center", ncols=len(SHOWN))
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


def publish(folder: Path, console: Console, records: list[dict[str, Any]]) -> None:
    """Writes ``table.md``, ``detail.md`` and the figures, and prints the table."""
    header, *cells = records
    found = differences(records)
    pairs = list(dict.fromkeys(one.pair for one in found))
    kinds = list(dict.fromkeys((pair[0], pair[3]) for pair in pairs))
    config = header["config"]
    lines = []
    for group, optimizer in kinds:
        lines += [f"**{optimizer}, pairs to {group}**", ""]
        lines += [*summary(found, group, optimizer), ""]
    lines += [
        f"- {config['per_class']} training images a class, {config['seeds']} seeds, "
        f"{config['steps']} steps of 10 images. A cell is one source, target, "
        "optimizer and λ; its difference to plain fine-tuning is paired by seed.",
        "- By chance alone, a rule that changes nothing on average would lie more than "
        "1 standard error below in 16 % of the cells, and more than 2 in 2 %.",
        "- Gain kept: mean share of the best gain of any rule at the same λ, over the "
        "cells in which that is at least a point and two standard errors, of pairs in "
        "which the plain sum gains as much at its best λ.",
        f"- {provenance(header)}",
    ]
    (folder / "table.md").write_text("\n".join(lines) + "\n")
    parts = []
    for pair in pairs:
        group, source, target, optimizer = pair
        parts += [f"**{source} → {target}, {optimizer} ({group})**", ""]
        parts += [*detail(found, pair), ""]
    (folder / "detail.md").write_text("\n".join(parts))
    for optimizer in dict.fromkeys(pair[3] for pair in pairs):
        here = [one for one in found if one.pair[3] == optimizer]
        figure(folder / f"never-hurt-{optimizer}.png", cells, here)
    console.print(Markdown("\n".join(lines)))
