"""The figures of ``benchmarks/README.md``: from records to PNG files."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import comparison, scaling
from benchmarks.records import Record

# Okabe and Ito's colours, told apart by colour-blind readers; markers differ too, so
# that the figures can be read in greyscale.
STYLES = (
    ("#000000", "o"),
    ("#0072B2", "s"),
    ("#E69F00", "^"),
    ("#009E73", "D"),
    ("#CC79A7", "v"),
    ("#56B4E9", "P"),
)
UNITS = {
    "numbers": "numbers in a gradient",
    "arrays": "arrays in a gradient",
    "groups": "groups of arrays",
}
COSTS = {"ms": "update, ms", "compile_s": "compile, s"}


def rules(record: Record, path: Path) -> None:
    """Ratios to the sum: a line a network, type and form, a marker a rule."""
    cases = list(dict.fromkeys(map(comparison.where, record.rows)))
    names = list(dict.fromkeys(row["ours"] for row in record.rows))
    figure = Figure(figsize=(7.5, 1.6 + 0.32 * len(cases)), layout="constrained")
    axes = figure.subplots()
    for rule, (colour, marker) in zip(names, STYLES, strict=False):
        rows = [row for row in record.rows if row["ours"] == rule]
        ratios = [row["ratio"] for row in rows]
        axes.errorbar(
            [ratio["median"] for ratio in ratios],
            [cases.index(comparison.where(row)) for row in rows],
            xerr=[
                [ratio["median"] - ratio["low"] for ratio in ratios],
                [ratio["high"] - ratio["median"] for ratio in ratios],
            ],
            fmt=marker,
            color=colour,
            markersize=5,
            linewidth=1,
            label=rule,
        )
    usual = [row for row in record.rows if row["ours"] == "global"]
    axes.plot(
        [row["floor"] for row in usual],
        [cases.index(comparison.where(row)) for row in usual],
        "|",
        color="0.4",
        markersize=14,
        label="floor (global)",
    )
    medians = [row["ratio"]["median"] / row["floor"] for row in usual]
    axes.set_title(
        f"Global DTNH takes {min(medians):.2f} to {max(medians):.2f} times its floor"
    )
    axes.set_yticks(range(len(cases)), cases)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("time of an update / time of the plain sum (median, quartiles)")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(path, dpi=150)


def growth(record: Record, path: Path) -> None:
    """Cost against size on logarithmic axes: a row a cost, a column an axis."""
    names = list(dict.fromkeys(row["axis"] for row in record.rows))
    figure = Figure(figsize=(3.4 * len(names), 5.6), layout="constrained")
    panels = figure.subplots(len(COSTS), len(names), squeeze=False)
    for panel_row, cost in zip(panels, COSTS, strict=True):
        for panel, axis in zip(panel_row, names, strict=True):
            _growth(panel, record, axis, cost)
        panel_row[0].set_ylabel(COSTS[cost])
    figure.savefig(path, dpi=150)


def _growth(panel: Axes, record: Record, axis: str, cost: str) -> None:
    powers = {}
    whats = [what for name, what in scaling.lines(record.rows) if name == axis]
    for what, (colour, marker) in zip(whats, STYLES, strict=False):
        n, costs = scaling.series(record.rows, axis, what, cost)
        panel.loglog(n, costs, marker=marker, color=colour, markersize=4, label=what)
        power = scaling.exponent(n, costs)
        if power is not None:
            powers[what] = power
    # The sum's is the yardstick; ours, the steepest of the others.
    ours = max((p for what, p in powers.items() if what != "sum"), default=None)
    if ours is not None and "sum" in powers:
        title = (
            f"DTNH grows as $n^{{{ours:.2f}}}$, the sum as $n^{{{powers['sum']:.2f}}}$"
        )
        panel.set_title(title, fontsize=9)
    panel.set_xlabel(UNITS[axis])
    panel.grid(color="0.9")
    panel.legend(frameon=False, fontsize=8)
