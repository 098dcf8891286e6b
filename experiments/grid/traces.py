"""The figures of a grid's report that show training: cosines, and the loss."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.grid.compare import Best
from experiments.grid.figures import form_label, places_of, style
from experiments.grid.plan import Key, Place
from experiments.methods import METHODS, family
from experiments.panels import cosine_bar, cosine_panel, legend


def _sheet(places: Sequence[Place], width: float, height: float):
    """A figure with a row for each pair and a column for each batch size.

    Also the panel of each of ``places``; those of others are left blank. At least as
    wide as its title.
    """
    pairs = list(dict.fromkeys((place.source, place.target) for place in places))
    sizes = list(dict.fromkeys(place.batch_size for place in places))
    size = (max(1.4 + width * len(sizes), 7.0), 1.2 + height * len(pairs))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(pairs), len(sizes), sharex=True, squeeze=False)
    by_place = {
        place: panels[
            pairs.index((place.source, place.target)), sizes.index(place.batch_size)
        ]
        for place in places
    }
    for panel in panels.flat:
        panel.set_axis_off()
    for panel in by_place.values():
        panel.set_axis_on()
    for column in panels.T:
        lowest = [panel for panel in column if panel.axison][-1]
        lowest.set_xlabel("share of the steps, %")
        lowest.xaxis.set_tick_params(labelbottom=True)
    return figure, panels, by_place


def cosine(path: Path, best: Best, planned: Sequence[Key], name: str) -> bool:
    """Draws the cosine of the two gradients, layer against step, at the chosen λ."""
    places = [place for place in places_of(planned) if (place, name) in best]
    if not places:
        return False
    longest = max(
        len(group) for place in places for group in best[place, name]["groups"]
    )
    figure, panels, by_place = _sheet(places, 2.4 + 0.07 * longest, 1.6)
    for place, panel in by_place.items():
        record = best[place, name]
        values = np.asarray(record["cosine"])
        cosine_panel(panel, values, record["groups"], _shares(values))
        _place_title(panel, record, f", λ = {record['weight']:g}")
    cosine_bar(panels, shrink=0.6)
    figure.suptitle(
        f"{METHODS[name].label}, the plain sum: cosine of regularizer and empirical "
        "gradient\nby layer, input to output (with its mean over the steps)",
        fontsize=10,
    )
    figure.savefig(path, dpi=120)
    return True


def loss(path: Path, best: Best, planned: Sequence[Key]) -> bool:
    """Draws the empirical loss in training, of L2-SP and its forms at their λ."""
    shown = ("plain", *family("l2-sp"))
    places = [
        place for place in places_of(planned)
        if any((place, name) in best for name in shown)
    ]  # fmt: skip
    if not places:
        return False
    figure, panels, by_place = _sheet(places, 3.0, 2.0)
    for place, panel in by_place.items():
        for name in shown:
            record = best.get((place, name))
            if record is None:
                continue
            values = record["loss"]
            colour, line, _ = style(name)
            label = "plain fine-tuning" if name == "plain" else form_label(name)
            panel.plot(_shares(values), values, color=colour, linestyle=line,
                       linewidth=1.2, label=label)  # fmt: skip
            _place_title(panel, record, "")
        panel.set_yscale("log")
        panel.spines[["top", "right"]].set_visible(False)
    figure.supylabel("empirical loss of a batch, nats", fontsize=10)
    legend(figure, panels)
    figure.suptitle(
        "Empirical loss in training: plain fine-tuning, L2-SP and its forms,\n"
        "each at its chosen trial (mean over seeds)",
        fontsize=10,
    )
    figure.savefig(path, dpi=120)
    return True


def _shares(values: Sequence | np.ndarray) -> np.ndarray:
    """Where, in per cent of the training, the middle of each point lies."""
    return 100 * (np.arange(len(values)) + 0.5) / len(values)


def _place_title(panel, record, more: str) -> None:
    panel.set_title(
        f"{record['from']} → {record['to']},\nbatches of {record['batch_size']}{more}",
        fontsize=7,
    )
