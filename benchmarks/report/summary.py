"""A short table for the main README: whole steps, and the projection alone."""

from collections.abc import Mapping, Sequence

from benchmarks.records import Record
from benchmarks.tables import Table, markdown, number, spread

# What is shown: endings of cases, the first of each network.
ENDINGS = (
    "L2-SP: dtnh, global",
    "last map: dtnh, global",
    "last map, teacher: dtnh, global",
    "float32, pair: global",
)


def summary(records: Mapping[str, Sequence[Record]]) -> str:
    """The table as Markdown, from the records of each benchmark by its name."""
    shown: dict[tuple[str, ...], list[str]] = {}
    for name in ("step", "projection"):
        for record in records[name]:
            for row in record.rows:
                case = row["case"]
                # The sweep over batches has further rows of the same ending.
                ending = next((x for x in ENDINGS if case.endswith(x)), "")
                key = (record.device, case.partition(",")[0], ending)
                if ending and key not in shown:
                    shown[key] = [
                        case,
                        row["reference"],
                        spread(row["ratio"]),
                        number(row["floor"], ".2f"),
                        record.device,
                    ]
    if not shown:
        return "Not measured yet.\n"
    headings = ["with DTNH", "beside", "time, ratio", "floor", "device"]
    return markdown(Table(headings, list(shown.values()))) + "\n"
