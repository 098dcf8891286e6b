"""The figures of a grid's report that show accuracy, and how its lines are drawn.

Colours are Okabe and Ito's, told apart by colour-blind readers; line styles and markers
differ too, so that every figure can be read in greyscale.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.grid.choose import Records, succeeded
from experiments.grid.compare import Best
from experiments.grid.plan import Key, Place
from experiments.methods import FORMS, METHODS, REGULARIZERS, family
from experiments.panels import legend
from experiments.statistics import estimate

# Of the plain sum and of each form: colour, line style, marker.
STYLES = dict(
    zip(
        ("sum", *FORMS),
        (
            ("#000000", "-", "o"),
            ("#E69F00", "--", "s"),
            ("#D55E00", "-.", "^"),
            ("#56B4E9", "--", "v"),
            ("#0072B2", "-", "D"),
        ),
        strict=True,
    )
)
PLAIN = ("#666666", ":", "X")


def names(place: Place, records: Records) -> tuple[str, str]:
    """What source and target are called, if one of their cells has been run."""
    for key, record in records.items():
        if (key.source, key.target) == (place.source, place.target):
            return record["from"], record["to"]
    return place.source, place.target


def places_of(planned: Sequence[Key]) -> list[Place]:
    return list(dict.fromkeys(key.place for key in planned))


def _methods(planned: Sequence[Key]) -> list[str]:
    return list(dict.fromkeys(key.method for key in planned))


def style(name: str) -> tuple[str, str, str]:
    if name not in _FORM_OF:
        return PLAIN
    return STYLES[_FORM_OF[name]]


_FORM_OF = {
    name: form
    for regularizer in REGULARIZERS
    for name, form in zip(family(regularizer), STYLES, strict=True)
}


def accuracy(path: Path, records: Records, best: Best, planned: Sequence[Key]) -> bool:
    """Draws the test accuracy of one pair by method, one panel a batch size.

    Args:
      path: PNG file to write.
      records: of all cells.
      best: the chosen trials.
      planned: the cells of the pair.

    Returns:
      Whether there was anything to draw; so do all figures here.
    """
    places, methods = places_of(planned), _methods(planned)
    if not any((place, name) in best for place in places for name in methods):
        return False
    size = (max(2.0 + 2.8 * len(places), 6.0), 1.5 + 0.24 * len(methods))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(places), sharey=True, squeeze=False)[0]
    for panel, place in zip(panels, places, strict=True):
        for y, name in enumerate(methods):
            if (place, name) not in best:
                panel.annotate(
                    "not run", (0.02, y), xycoords=("axes fraction", "data"),
                    va="center", fontsize=7, color="0.3",
                )  # fmt: skip
                continue
            value = estimate(best[place, name]["accuracy"])
            colour, _, marker = style(name)
            panel.errorbar(
                value.mean, y, xerr=value.standard_error, fmt=marker, color=colour,
                markeredgecolor="black", ecolor="black", markersize=5.5, capsize=2.5,
            )  # fmt: skip
        if (place, "plain") in best:
            level = np.mean(best[place, "plain"]["accuracy"])
            panel.axvline(level, color="0.4", linestyle=":", linewidth=1)
        panel.set_title(f"batches of {place.batch_size}", fontsize=9)
        panel.set_xlabel("test accuracy, %")
        panel.set_yticks(range(len(methods)), [METHODS[name].label for name in methods])
        panel.grid(axis="x", color="0.9")
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(len(methods) - 0.5, -0.5)
    source, target = names(places[0], records)
    figure.suptitle(
        f"{source} → {target}: each method at its best trial on validation images\n"
        "(mean ± standard error over seeds; dotted: plain fine-tuning)",
        fontsize=10,
    )
    figure.savefig(path, dpi=120)
    return True


def weights(path: Path, records: Records, best: Best, planned: Sequence[Key]) -> bool:
    """Draws test accuracy against λ: a row a regularizer, a column a batch size."""
    kinds = [name for name in REGULARIZERS if name in _methods(planned)]
    regularized = {name for kind in kinds for name in family(kind)}
    places = [
        place for place in places_of(planned)
        if any((place, name) in best for name in regularized)
    ]  # fmt: skip
    if not places:
        return False
    # At least as wide as its title.
    size = (max(1.2 + 2.8 * len(places), 6.0), 1.4 + 2.3 * len(kinds))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(
        len(kinds), len(places), sharex=True, sharey="row", squeeze=False
    )
    for row, kind in zip(panels, kinds, strict=True):
        for panel, place in zip(row, places, strict=True):
            for name in family(kind):
                _weight_line(panel, records, planned, place, name)
            if (place, "plain") in best:
                value = estimate(best[place, "plain"]["accuracy"])
                panel.axhline(value.mean, color="0.4", linestyle=":", label="plain")
                panel.axhspan(
                    value.mean - value.standard_error,
                    value.mean + value.standard_error, color="0.9", zorder=0,
                )  # fmt: skip
            panel.set_title(f"{METHODS[kind].label}, batches of {place.batch_size}",
                            fontsize=9)  # fmt: skip
            panel.set_xscale("log")
            panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[-1]:
        panel.set_xlabel("weight λ of the regularizer")
    figure.supylabel("test accuracy, %", fontsize=10)
    legend(figure, panels)
    source, target = names(places[0], records)
    figure.suptitle(
        f"{source} → {target}: test accuracy against λ\n"
        "(mean ± standard error; plain fine-tuning at its chosen learning rate)",
        fontsize=10,
    )
    figure.savefig(path, dpi=120)
    return True


def _weight_line(panel, records, planned, place, name) -> None:
    done = [
        (key.weight, estimate(records[key]["accuracy"]))
        for key in planned
        if (key.place, key.method) == (place, name)
        and key in records
        and succeeded(records[key])
    ]
    if not done:
        return
    colour, line, marker = style(name)
    panel.errorbar(
        [weight for weight, _ in done], [value.mean for _, value in done],
        [value.standard_error for _, value in done], color=colour, linestyle=line,
        marker=marker, markersize=4, linewidth=1.3, label=form_label(name),
    )  # fmt: skip


def form_label(name: str) -> str:
    """The label without its regularizer, which the panel's title names."""
    own, baseline = METHODS[name].label, METHODS[name].baseline
    if baseline is None:
        return "plain sum" if name in REGULARIZERS else own
    return own.removeprefix(f"{METHODS[baseline].label} + ")
