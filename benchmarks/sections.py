"""The sections of ``benchmarks/README.md``: from records to Markdown."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import collectives, import_time, projection, scaling, tables
from benchmarks.results import Record

Section = Callable[[Sequence[Record], Path], list[str]]


def of_projection(records: Sequence[Record], folder: Path) -> list[str]:
    """Ratios to the sum by rule, devices side by side; then every figure."""
    rules = list(projection.RULES)
    cells = []
    for record in records:
        by_case = itertools.groupby(
            record.rows, key=lambda row: row["case"].rpartition(": ")[0]
        )
        for case, rows in by_case:
            ratios = {row["ours"]: _to_floor(row) for row in rows}
            found = [ratios.get(rule, tables.NONE) for rule in rules]
            cells.append([case, device(record), *found])
    blocks = [
        "Time as a multiple of the sum's, medians; in brackets, of the floor's.",
        tables.markdown(["gradients", "device", *rules], cells),
    ]
    shown = ("GB/s", "sum GB/s", "copy GB/s", "triad GB/s", "device peak MB")
    for record in records:
        blocks += [_figure(record, folder), *_every_figure(record, shown)]
    return blocks


def of_comparison(records: Sequence[Record], folder: Path) -> list[str]:
    """Of a benchmark whose rows are :class:`benchmarks.results.Row`, nothing else."""
    del folder
    blocks = []
    for record in records:
        extra = list(
            dict.fromkeys(name for row in record.rows for name in row["extra"])
        )
        blocks.append(tables.markdown(*tables.comparison(record.rows, extra)))
        blocks.append(provenance(record))
    return blocks


def of_scaling(records: Sequence[Record], folder: Path) -> list[str]:
    blocks = []
    for record in records:
        blocks.append(_figure(record, folder))
        for cost, name in scaling.COSTS.items():
            table = tables.markdown(*scaling.table(record.rows, cost))
            blocks += [f"To {name}, on {device(record)}:", table]
        blocks.append(provenance(record))
    return blocks


def of_collectives(records: Sequence[Record], folder: Path) -> list[str]:
    del folder
    blocks = []
    for record in records:
        kept = [collectives.kept(row) for row in record.rows]
        blocks += [
            f"The promise is kept in {sum(kept)} of {len(kept)} programs.",
            tables.markdown(*collectives.table(record.rows)),
            provenance(record),
        ]
    return blocks


def of_import_time(records: Sequence[Record], folder: Path) -> list[str]:
    del folder
    blocks = []
    for record in records:
        table = tables.markdown(*import_time.table(record.rows))
        blocks += [table, provenance(record)]
    return blocks


# What the summary shows: endings of cases, the first of each network.
SUMMARY = (
    "L2-SP: dtnh, global",
    "last map: dtnh, global",
    "last map, teacher: dtnh, global",
    "last map: k = 16",
    "float32, pair: global",
)


def summary(records: Mapping[str, Sequence[Record]]) -> str:
    """A short table for the main README: whole steps, and the projection alone."""
    shown: dict[tuple[str, ...], list[str]] = {}
    for name in ("step", "amortized", "projection"):
        for record in records.get(name, ()):
            for row in record.rows:
                case = row["case"]
                # The sweep over batches has further rows of the same ending.
                ending = next((x for x in SUMMARY if case.endswith(x)), "")
                key = (device(record), case.partition(",")[0], ending)
                if ending and key not in shown:
                    shown[key] = [
                        case,
                        row["reference"],
                        tables.spread(row["ratio"]),
                        tables.number(row["floor"], ".2f"),
                        device(record),
                    ]
    if not shown:
        return "Not measured yet.\n"
    headings = ["with DTNH", "beside", "time, ratio", "floor", "device"]
    return tables.markdown(headings, list(shown.values())) + "\n"


def device(record: Record) -> str:
    """The device's name: for a CPU the processor's."""
    machine = record.machine
    return machine["cpu"] if machine["platform"] == "cpu" else machine["device"]


def provenance(record: Record) -> str:
    """On what, with what and when the figures above were measured."""
    machine = record.machine
    versions = ", ".join(
        f"{name} {machine[name]}" for name in ("jax", "jaxlib", "optax", "python")
    )
    return (
        f"*{device(record)}, {machine['cpu_cores']} CPU cores; dtnh_jax "
        f"{machine['dtnh_jax']} ({record.commit}), {versions}; {record.date}.*"
    )


def _to_floor(row: dict) -> str:
    median = row["ratio"]["median"]
    return f"{median:.2f} ({median / row['floor']:.2f})"


def _figure(record: Record, folder: Path) -> str:
    path = folder / figure_name(record)
    return f"![{record.benchmark} on {device(record)}]({folder.name}/{path.name})"


def figure_name(record: Record) -> str:
    return (
        f"{record.benchmark}-{record.machine['device'].lower().replace(' ', '-')}.png"
    )


def _every_figure(record: Record, extra: Sequence[str]) -> list[str]:
    return [
        f"<details><summary>Every figure, on {device(record)}</summary>",
        tables.markdown(*tables.comparison(record.rows, extra)),
        "</details>",
        provenance(record),
    ]
