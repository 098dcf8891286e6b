"""The tables of the study, and what it writes and prints."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markdown import Markdown

from experiments.methods import METHODS
from experiments.never_hurt import figure
from experiments.never_hurt.differences import Difference, differences
from experiments.provenance import in_words


def helped(found: Sequence[Difference]) -> dict[tuple, float]:
    """The best gain of any rule, by pair and λ, where there is one to speak of.

    A pair counts if the plain sum, at the best λ for it, gains a point and two standard
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
    """The mean share of the best gain that one rule keeps in those cells."""
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
    best = helped(here)
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
        f"- {in_words(header)}",
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
        figure.draw(folder / f"never-hurt-{optimizer}.png", cells, here)
    console.print(Markdown("\n".join(lines)))
