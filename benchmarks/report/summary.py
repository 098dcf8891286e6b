"""Tables over all benchmarks: the goals, and the summary in the main README."""

from collections.abc import Sequence

from benchmarks import goals
from benchmarks.records import Record
from benchmarks.report.tables import kept, markdown, number, spread

# The goals of whole steps, which the main README shows.
SHOWN = (goals.L2_SP_STEP.name, goals.STEADY_STEP.name, goals.DISTILLATION.name)


def goals_table(records: Sequence[Record]) -> str:
    """One line per goal and device."""
    found: dict[tuple[str, str], list] = {}
    for record in records:
        for row in record.rows:
            if row.get("goal"):
                found.setdefault((row["goal"], record.device), []).append(row)
    cells = []
    for (goal, device), rows in found.items():
        ratios = sorted(row["ratio"]["median"] for row in rows)
        missed = [f"{row['case']}, {row['ours']}" for row in rows if not kept(row)]
        reached = " – ".join(number(x, ".2f") for x in (ratios[0], ratios[-1]))
        met = f"{len(rows) - len(missed)} of {len(rows)}"
        limit = number(rows[0]["limit"])
        cells.append([goal, device, limit, reached, met, "; ".join(missed) or "none"])
    headings = ["goal", "device", "limit", "reached", "met", "missed in"]
    return markdown(headings, cells)


def summary(records: Sequence[Record]) -> str:
    """The table in the main README: one row per goal, of an accelerator if possible."""
    rows: dict[str, list[str]] = {}
    for record in reversed(records):  # CPUs come first
        for row in record.rows:
            if row.get("goal") in SHOWN:
                what = f"{row['case']}: {row['ours']}"
                cells = what, row["reference"], spread(row["ratio"]), record.device
                rows.setdefault(row["goal"], [*cells])
    headings = ["a step with DTNH", "compared with", "time, ratio", "device"]
    return markdown(headings, [rows[goal] for goal in SHOWN if goal in rows])
