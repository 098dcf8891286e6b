"""The sections of ``benchmarks/README.md``: from records to Markdown."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import collectives, projection, scaling, tables
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


def summary(records: Mapping[str, Sequence[Record]]) -> str:
    """A short table for the main README: whole steps, and the projection alone."""
    cells = []
    for name in ("step", "projection"):
        for record in records.get(name, ()):
            for row in record.rows:
                if name == "projection" and row["ours"] != "global":
                    continue
                ratio, floor = tables.spread(row["ratio"]), row["floor"]
                cells.append(
                    [
                        row["case"],
                        row["reference"],
                        device(record),
                        ratio,
                        tables.number(floor, ".2f"),
                    ]
                )
    if not cells:
        return "Not measured yet.\n"
    headings = ["with DTNH", "beside", "device", "time, ratio", "floor"]
    return tables.markdown(headings, cells) + "\n"


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
