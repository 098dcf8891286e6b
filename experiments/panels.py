"""Parts of figures with several panels, of the demo and of the grids."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtnh_jax import plot_conflict


def legend(figure: Figure, panels: Any, fontsize: float = 8) -> None:
    """Draws one legend below all panels, each label once."""
    entries = {
        label: handle
        for panel in np.ravel(panels)
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    if entries:
        figure.legend(
            entries.values(), entries.keys(), loc="outside lower center",
            ncols=len(entries), fontsize=fontsize, frameon=False,
        )  # fmt: skip


def cosine_panel(
    panel: Axes,
    cosine: np.ndarray,
    groups: Sequence[str],
    steps: Sequence[float] | np.ndarray | None = None,
) -> None:
    """Draws one panel of several that share labels and colour bar.

    Args:
      panel: where to draw; its title and labels stay as they are.
      cosine: of the two gradients, ``[T, K]``; each row ends with its mean.
      groups: ``K`` names.
      steps: as ``plot_conflict`` takes them.
    """
    around = {name: getattr(panel, f"get_{name}")() for name in ("xlabel", "ylabel")}
    reports = [
        {group: {"cosine": value} for group, value in zip(groups, row, strict=True)}
        for row in cosine
    ]
    plot_conflict(reports, steps=steps, ax=panel)
    panel.set(title="", **around)
    own_bar = panel.collections[0].colorbar
    assert own_bar is not None
    own_bar.remove()
    for y, mean in enumerate(cosine.mean(axis=0)):
        panel.annotate(
            f"{mean:+.2f}".replace("-", "−"), (0.98, y),
            xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=7,
            bbox={"facecolor": "white", "linewidth": 0, "pad": 1},
        )  # fmt: skip


def cosine_bar(panels: np.ndarray, shrink: float = 0.9) -> None:
    """Draws the colour bar that panels by ``cosine_panel`` share; some may be blank."""
    drawn = next(panel for panel in panels.flat if panel.collections)
    bar = drawn.figure.colorbar(drawn.collections[0], ax=panels, shrink=shrink)
    bar.set_label("cosine of the two gradients\n(dark, below 0: conflict)", fontsize=9)
