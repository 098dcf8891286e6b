"""What stands under each heading of ``benchmarks/README.md``, as blocks of Markdown."""

import itertools
from collections.abc import Sequence

from benchmarks import (
    collectives,
    comparison,
    compile,
    import_time,
    projection,
    scaling,
)
from benchmarks.records import Record, Row
from benchmarks.tables import NONE, Table, markdown


def comparisons(record: Record) -> list[str]:
    """Of a benchmark whose rows are :class:`benchmarks.comparison.Comparison`."""
    extra = list(dict.fromkeys(name for row in record.rows for name in row["extra"]))
    return [markdown(comparison.table(record.rows, extra))]


def rules(records: Sequence[Record]) -> list[str]:
    """Of the projection: ratios to the sum by rule, devices side by side."""
    cells = []
    for record in records:
        for where, rows in itertools.groupby(record.rows, key=comparison.where):
            ratios = {row["ours"]: _to_floor(row) for row in rows}
            found = [ratios.get(rule, NONE) for rule in projection.RULES]
            cells.append([where, record.device, *found])
    return [
        "Time as a multiple of the sum's, medians; in brackets, of the floor's.",
        markdown(Table(["gradients", "device", *projection.RULES], cells)),
    ]


def projections(record: Record) -> list[str]:
    """Every figure behind the table of rules."""
    shown = ("GB/s", "sum GB/s", "copy GB/s", "triad GB/s", "device peak MB")
    return [
        f"<details><summary>Every figure, on {record.device}</summary>",
        markdown(comparison.table(record.rows, shown)),
        "</details>",
    ]


def compilations(record: Record) -> list[str]:
    """Of compile: time, its growth with the number of arrays, and temporaries."""
    return [
        f"To compile an update, on {record.device}:",
        markdown(compile.compile_times(record.rows)),
        "Seconds to trace, lower and compile, by the number of arrays:",
        markdown(compile.growth(record.rows)),
        "Temporaries, ours / the reference's:",
        markdown(compile.temporaries(record.rows)),
    ]


def growth(record: Record) -> list[str]:
    """Of scaling: a table for each cost."""
    blocks = []
    for cost, name in scaling.COSTS.items():
        table = markdown(scaling.table(record.rows, cost))
        blocks += [f"To {name}, on {record.device}:", table]
    return blocks


def promises(record: Record) -> list[str]:
    """Of collectives: how many programs meet the goal, and what is added."""
    kept = [collectives.kept(row) for row in record.rows]
    return [
        f"{sum(kept)} of {len(kept)} programs meet the goal.",
        markdown(collectives.table(record.rows)),
    ]


def imports(record: Record) -> list[str]:
    """Of the time of importing."""
    return [markdown(import_time.table(record.rows))]


def provenance(record: Record) -> str:
    """On what, with what and when the figures above were measured."""
    machine = record.machine
    versions = ", ".join(
        f"{name} {machine[name]}" for name in ("jax", "jaxlib", "optax", "python")
    )
    return (
        f"*{record.device}, {machine['cpu_cores']} CPU cores; dtnh_jax "
        f"{machine['dtnh_jax']} ({record.commit}), {versions}; {record.date}.*"
    )


def _to_floor(row: Row) -> str:
    median = row["ratio"]["median"]
    return f"{median:.2f} ({median / row['floor']:.2f})"
