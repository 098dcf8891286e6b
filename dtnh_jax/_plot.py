"""The conflict in each group over the steps, as a heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dtnh_jax import _checks

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# What the colour bar says of each value.
_LABELS = {
    "cosine": "cosine of the two gradients\n(dark, below 0: conflict)",
    "removed": "share of the regularizer\nremoved",
    "pull": "pull of the regularizer,\n|r'| / |u|",
    "rate": "share of the steps so far\nwith a conflict",
}

# Of the cosine, lighter from -1 to 1, with a jump in hue and in lightness at 0: a
# conflict can be recognised in greyscale too. In every map darker means worse.
_BELOW_0 = "#22062f", "#9c2c58", "#dda377"
_ABOVE_0 = "#b4cfe0", "#d8e7f1", "#fbfdff"

# More columns than this are less than a pixel wide each.
_MOST_COLUMNS = 400


def plot_conflict(
    reports: Sequence[Mapping[str, Mapping[str, Any]]],
    *,
    steps: Sequence[float] | np.ndarray | None = None,
    value: str = "cosine",
    ax: Axes | None = None,
) -> Axes:
    """Plots conflict reports, group against step, as a heat map.

    Needs matplotlib: ``pip install 'dtnh-jax[plot]'``. The colours are readable in
    greyscale and by colour-blind readers. If there are more than 400 reports,
    neighbours share a column, which shows their mean; the title counts every report.

    Args:
      reports: what :func:`conflict_report` returned, one report for each logged step.
      steps: the steps of the reports, increasing; 0, 1, 2, ... by default.
      value: ``"cosine"``, ``"removed"``, ``"pull"`` or ``"rate"``, as in
        :func:`conflict_report`. The colours of ``"pull"`` end at the largest finite
        value, at 1 at least; an infinite one has the last colour.
      ax: the axes to draw in; by default those of a new figure, sized to the groups.

    Returns:
      The axes, with a colour bar and a title that states the finding. A NaN, as where a
      gradient was not finite, is left out and hatched.

    Raises:
      ImportError: if matplotlib is not installed.
      TypeError: if an argument is of the wrong kind, or ``reports`` hold arrays, as
        after ``jax.vmap``.
      ValueError: if there are no reports, or their groups differ; if ``steps`` do not
        fit them or do not increase; if ``value`` is not known.

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
      'Conflict in 100 % of the steps shown'
    """
    try:
        import matplotlib
        from matplotlib.axes import Axes
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise ImportError(
            "plot_conflict needs matplotlib: pip install 'dtnh-jax[plot]'"
        ) from error
    _checks.one_of("value", value, _LABELS)
    names, table = _read(reports, value)
    found = table.compressed()
    edges = _edges(steps, table.shape[1])
    if ax is None:
        ax = _new_axes(names)
    elif not isinstance(ax, Axes):
        raise TypeError(f"`ax` must be matplotlib Axes, got {ax!r}")

    colours = matplotlib.colormaps["cividis_r"]
    if value == "cosine":
        stops = zip((0, 0.25, 0.5, 0.5, 0.75, 1), (*_BELOW_0, *_ABOVE_0), strict=True)
        colours = LinearSegmentedColormap.from_list("conflict", list(stops))
    count = table.shape[1]
    columns = np.array_split(np.arange(count), min(count, _MOST_COLUMNS))
    highest = found[np.isfinite(found)].max(initial=1) if value == "pull" else 1
    shown = table.clip(max=highest)  # Matplotlib would leave out what is infinite
    mesh = ax.pcolormesh(
        edges[[*(column[0] for column in columns), -1]],
        np.arange(len(names) + 1) - 0.5,
        np.ma.stack([shown[:, column].mean(axis=1) for column in columns], axis=1),
        cmap=colours,
        vmin=-1 if value == "cosine" else 0,
        vmax=highest,
        rasterized=True,  # in a PDF, one image instead of thousands of rectangles
    )
    beyond = "max" if np.isinf(found).any() else "neither"
    ax.figure.colorbar(mesh, ax=ax, extend=beyond).set_label(_LABELS[value])
    ax.set_title(_finding(names, table, value), fontsize=10)
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    if np.ma.is_masked(table):
        ax.patch.set(facecolor="white", edgecolor="0.5", hatch="////")
        ax.set_xlabel("step (hatched: NaN)")
    row_height = ax.get_window_extent().height / len(names) * 72 / ax.figure.dpi
    ax.set_yticks(range(len(names)), names, fontsize=np.clip(0.8 * row_height, 4, 9))
    ax.set_ylabel("group")
    ax.set_ylim(len(names) - 0.5, -0.5)
    return ax


def _read(reports: Any, value: str) -> tuple[list[str], np.ma.MaskedArray]:
    """The groups' names, and the values ``[groups, reports]``, with NaN masked."""
    reports = list(reports)
    for i, report in enumerate(reports):
        if not isinstance(report, Mapping):
            raise TypeError(
                "`reports` must be a list of dicts as conflict_report returns them, "
                f"got {report!r} at [{i}]"
            )
        if differing := {*report} ^ {*reports[0]}:
            raise ValueError(
                "all reports must be of the same groups, got a report that differs "
                f"from the first in {sorted(differing)} at [{i}]"
            )
    if not reports or not reports[0]:
        raise ValueError(
            "`reports` must hold at least one report of at least one group, got "
            f"{reports!r}"
        )
    names = list(reports[0])
    rows = [[_number(report, name, value) for report in reports] for name in names]
    table = np.array(rows, np.float64)
    return names, np.ma.array(table, mask=np.isnan(table))


def _number(report: Mapping[str, Any], name: str, value: str) -> float:
    entry = report[name]
    found = entry.get(value) if isinstance(entry, Mapping) else None
    if found is None or np.ndim(found) > 0:
        raise TypeError(
            f"group {name!r} must have one number {value!r}, as conflict_report gives "
            f"it, got {entry!r}; after jax.vmap, plot one run at a time: "
            "[jax.tree.map(lambda x: x[0], report) for report in reports]"
        )
    return float(found)


def _edges(steps: Any, count: int) -> np.ndarray:
    """The edges of the reports' columns, ``[count + 1]``."""
    at = np.arange(count) if steps is None else np.asarray(steps)
    if at.dtype.kind not in "iuf" or at.shape != (count,):
        raise ValueError(f"`steps` must be {count} numbers, got {steps!r}")
    if not np.all(np.isfinite(at)) or not np.all(np.diff(at) > 0):
        raise ValueError(f"`steps` must be finite and increase, got {steps!r}")
    between = (at[:-1] + at[1:]) / 2
    first, last = (at[1] - at[0], at[-1] - at[-2]) if count > 1 else (1, 1)
    return np.array([at[0] - first / 2, *between, at[-1] + last / 2])


def _finding(names: list[str], table: np.ma.MaskedArray, value: str) -> str:
    """The title: what all reports show, in words."""
    if table.count() == 0:
        return "Nothing but NaN"
    groups = "" if len(names) == 1 else " and groups"
    conflict = "Conflict in {} of the steps" + groups
    pull = "The regularizer pulls {} times as hard as\nthe optimizer (median)"
    text, most, measured = {
        "cosine": (conflict + " shown", ",\nmost", table < 0),
        "removed": ("{} of the regularizer removed, on average", ",\nmost", table),
        "pull": (pull, ", hardest", table),
        "rate": (conflict + " so far", ",\nmost", table[:, -1:]),
    }[value]
    average = np.ma.median if value == "pull" else np.ma.mean
    by_group = np.ma.asarray(average(measured, axis=1))

    def words(number: float) -> str:
        return f"{number:.2g}" if value == "pull" else f"{100 * number:.0f} %"

    worst = int(by_group.argmax())
    text = text.format(words(average(measured)))
    if len(names) > 1 and by_group[worst] > 0:
        text += f"{most} in {names[worst]} ({words(by_group[worst])})"
    return text


def _new_axes(names: list[str]) -> Axes:
    from matplotlib import pyplot

    # In inches: 14 points a row, and about 5 points a letter of the longest name.
    size = (5.8 + 0.07 * max(map(len, names)), 1.6 + 0.2 * max(len(names), 4))
    return pyplot.subplots(figsize=size, layout="constrained")[1]
