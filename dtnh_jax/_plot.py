"""Heat map of the conflict in each group over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dtnh_jax import _checks

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_LABELS = {
    "cosine": "cosine of the two gradients\n(dark, below 0: conflict)",
    "removed": "share of the regularizer\nremoved",
    "pull": "pull of the regularizer,\n|r'| / |u|",
    "rate": "share of the steps so far\nwith a conflict",
}
_TITLES = {
    "cosine": "Conflict in {} of the steps shown",
    "removed": "{} of the regularizer removed, on average",
    "pull": "The regularizer pulls {} times as hard as\nthe optimizer (median)",
    "rate": "Conflict in {} of the steps so far",
}
# Gets lighter from cosine -1 to 1, with a jump in hue and lightness at 0 that shows in
# greyscale, too. In every colour map, darker means worse.
_STOPS = 0, 0.25, 0.5, 0.5, 0.75, 1
_COLOURS = "#22062f", "#9c2c58", "#dda377", "#b4cfe0", "#d8e7f1", "#fbfdff"


def plot_conflict(
    reports: Sequence[Mapping[str, Mapping[str, Any]]],
    *,
    steps: Sequence[float] | np.ndarray | None = None,
    value: str = "cosine",
    ax: Axes | None = None,
) -> Axes:
    """Plots conflict reports as a heat map, with a row per group and a column per step.

    Needs matplotlib: ``pip install 'dtnh-jax[plot]'``. The colours can be told apart in
    greyscale and by colour-blind readers.

    Args:
      reports: results of :func:`conflict_report`, one for each logged step. If there
        are more than 400, each column shows the mean of several.
      steps: the steps of the reports, increasing; 0, 1, 2, ... by default.
      value: ``"cosine"``, ``"removed"``, ``"pull"`` or ``"rate"``, as in
        :func:`conflict_report`.
      ax: the axes to draw in; by default those of a new figure, sized to the groups.

    Returns:
      The axes, with a colour bar and a title that states the finding. NaN is hatched.

    Raises:
      ImportError: if matplotlib is not installed.
      ValueError: if there are no reports, their groups differ, ``steps`` is not one
        increasing number per report, or ``value`` is not known.
      TypeError: if ``reports`` hold arrays, as after ``jax.vmap``, or ``ax`` is not a
        matplotlib ``Axes``.

    Examples:
      >>> import jax.numpy as jnp
      >>> from dtnh_jax import GradientPair, conflict_report, dtnh, plot_conflict
      >>> g, r = {"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([-3.0, 4.0])}
      >>> tx, reports = dtnh(), []
      >>> state = tx.init(g)
      >>> for _ in range(3):
      ...     _, state = tx.update(GradientPair(g, r), state)
      ...     reports.append(conflict_report(state))
      >>> plot_conflict(reports).get_title()
      'Conflict in 100% of the steps shown'
    """
    try:
        from matplotlib import colors, pyplot, ticker
        from matplotlib.axes import Axes
    except ImportError as error:
        raise ImportError(
            "plot_conflict needs matplotlib: pip install 'dtnh-jax[plot]'"
        ) from error
    _checks.one_of("value", value, _LABELS)
    names, table = _read(list(reports), value)
    count = table.shape[1]
    edges = _edges(range(count) if steps is None else steps, count)
    if ax is None:
        # In inches: 14 points per row, about 5 points per letter of the longest name.
        size = 5.8 + 0.07 * max(map(len, names)), 1.6 + 0.2 * max(len(names), 4)
        ax = pyplot.subplots(figsize=size, layout="constrained")[1]
    elif not isinstance(ax, Axes):
        raise TypeError(f"`ax` must be matplotlib Axes, got {ax!r}")

    colours, lowest = "cividis_r", 0
    highest = max([1, *table[np.isfinite(table)].compressed()])  # above 1: a pull
    if value == "cosine":
        stops = list(zip(_STOPS, _COLOURS, strict=True))
        colours, lowest = (
            colors.LinearSegmentedColormap.from_list("conflict", stops),
            -1,
        )
    # With more than 400 columns, each would be less than a pixel wide.
    columns = np.array_split(np.arange(count), min(count, 400))
    shown = table.clip(max=highest)  # matplotlib would leave out infinite values
    mesh = ax.pcolormesh(
        edges[[*(column[0] for column in columns), -1]],
        np.arange(len(names) + 1) - 0.5,
        np.ma.stack([shown[:, column].mean(axis=1) for column in columns], axis=1),
        cmap=colours,
        vmin=lowest,
        vmax=highest,
        rasterized=True,  # in a PDF, one image instead of thousands of rectangles
    )
    beyond = "max" if np.isinf(table).any() else "neither"
    ax.figure.colorbar(mesh, ax=ax, extend=beyond).set_label(_LABELS[value])
    ax.set(title=_finding(names, table, value), xlabel="step", ylabel="group")
    if np.ma.is_masked(table):
        ax.patch.set(facecolor="white", edgecolor="0.5", hatch="////")
        ax.set_xlabel("step (hatched: NaN)")
    ax.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True, min_n_ticks=1))
    row_height = ax.get_window_extent().height / len(names) * 72 / ax.figure.dpi
    ax.set_yticks(range(len(names)), names, fontsize=np.clip(0.8 * row_height, 4, 9))
    ax.invert_yaxis()
    return ax


def _read(reports: list[Any], value: str) -> tuple[list[str], np.ma.MaskedArray]:
    """The group names, and the values ``[groups, reports]`` with NaN masked."""
    if not reports or not reports[0]:
        raise ValueError(f"`reports` must hold a report of a group, got {reports!r}")
    for i, report in enumerate(reports):
        if not isinstance(report, Mapping) or report.keys() != reports[0].keys():
            raise ValueError(
                "`reports` must be dicts of the same groups, as conflict_report "
                f"returns them, got {report!r} at [{i}]"
            )
        for name, entry in report.items():
            if not isinstance(entry, Mapping) or np.ndim(entry.get(value, ())):
                raise TypeError(
                    f"group {name!r} must have one number {value!r}, got {entry!r} at "
                    f"[{i}]; after jax.vmap, plot one run at a time: "
                    "[jax.tree.map(lambda x: x[0], report) for report in reports]"
                )
    names = list(reports[0])
    rows = np.array([[report[name][value] for report in reports] for name in names])
    return names, np.ma.array(rows, mask=np.isnan(rows), dtype=np.float64)


def _edges(steps: Any, count: int) -> np.ndarray:
    """The edges of the reports' columns, ``[count + 1]``."""
    at = np.asarray(steps)
    are_numbers = at.dtype.kind in "iuf" and at.shape == (count,)
    at = at.astype(np.float64) if are_numbers else at  # unsigned numbers wrap around
    if not (are_numbers and np.isfinite(at).all() and (np.diff(at) > 0).all()):
        raise ValueError(f"`steps` must be {count} increasing numbers, got {steps!r}")
    if count == 1:
        return at + np.array([-0.5, 0.5])
    around = np.pad(at, 1, "reflect", reflect_type="odd")  # one step more at each end
    return (around[:-1] + around[1:]) / 2


def _finding(names: list[str], table: np.ma.MaskedArray, value: str) -> str:
    """The title: the finding over all reports, in words."""
    if table.count() == 0:
        return "Nothing but NaN"
    measured = {"cosine": table < 0, "rate": table[:, -1:]}.get(value, table)
    average, words = np.ma.mean, "{:.0%}".format
    if value == "pull":
        average, words = np.ma.median, "{:.2g}".format
    title = _TITLES[value].format(words(average(measured)))
    by_group = np.ma.asarray(average(measured, axis=1))
    worst = int(by_group.argmax())
    if len(names) > 1 and by_group[worst] > 0:
        title = title.replace("steps", "steps and groups")
        title += f",\nmost in {names[worst]} ({words(by_group[worst])})"
    return title
