"""The page of tables, ``benchmarks/README.md``, and ``results/summary.md``."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import benchmarks
from benchmarks import compile, gpu_tests, memory, peers, provenance, step, update
from benchmarks.goals import ALL_REDUCES
from benchmarks.provenance import Standing
from benchmarks.records import Record, read
from benchmarks.report import tables
from benchmarks.report.summary import goals_table, summary

# All benchmarks by name, in the order of the page.
BENCHMARKS: dict[str, ModuleType] = {
    "step": step,
    "update": update,
    "compile": compile,
    "memory": memory,
    "peers": peers,
    "gpu_tests": gpu_tests,
}
CHANGED = "; `dtnh_jax/` has changed since"
COLLECTIVES = f"""## Communication between devices

A test, `tests/sharding/check_collectives.py`, counts the collectives of a whole step
with four arrays on eight virtual CPU devices, under plain `jax.jit`. Compared with
L2-SP by hand, the steady rule adds at most {ALL_REDUCES["data"]} all-reduces if
parameters are replicated, {ALL_REDUCES["fsdp"]} if every array is sharded, and
{ALL_REDUCES["tensor"]} in a tensor-parallel layout, and no other collective."""


def report(folder: Path, *, check: bool) -> int:
    """Writes the pages that changed; with ``check``, only reports them.

    Args:
      folder: folder of the results; the page is in the folder above.
      check: write nothing.

    Returns:
      1 if ``check`` found anything out of date, or if a commit is foreign; else 0.
    """
    records = read(folder)
    standings: dict[str, Standing] = {
        commit: provenance.standing(commit) for commit in {x.commit for x in records}
    }
    unknown = [commit for commit, state in standings.items() if state == "unknown"]
    foreign = [commit for commit, state in standings.items() if state == "foreign"]
    for commit in unknown:
        print(f"not checked, because its history is not here: {commit}")
    for commit in foreign:
        print(f"a record has a commit that is not an ancestor of this one: {commit}")
    pages = {folder.parent / "README.md": readme(records, standings)}
    if any(record.benchmark == "step" for record in records):
        pages[folder / "summary.md"] = f"{summary(records)}\n"

    def comparable(text: str) -> str:
        return text.replace(CHANGED, "") if unknown else text

    stale = [
        path
        for path, text in pages.items()
        if not path.exists() or comparable(path.read_text()) != comparable(text)
    ]
    for path in stale:
        print(f"{'out of date' if check else 'wrote'}: {path.name}")
        if not check:
            path.write_text(pages[path])
    if check and stale:
        print("update them with: python -m benchmarks report")
    return int(bool(foreign) or (check and bool(stale)))


def readme(records: Sequence[Record], standings: Mapping[str, Standing]) -> str:
    """The page: the goals, then the method and the results of each benchmark.

    Args:
      records: all records.
      standings: whether the library changed since, by commit.
    """
    blocks = ["<!-- Made by `python -m benchmarks report`; do not edit. -->"]
    blocks += ["# Benchmarks", inspect.cleandoc(benchmarks.__doc__ or "")]
    if records:
        blocks += ["## Goals", goals_table(records)]
    for name, module in BENCHMARKS.items():
        found = [record for record in records if record.benchmark == name]
        blocks += [f"## {module.TITLE}", inspect.cleandoc(module.__doc__ or "")]
        for record in found:
            if module is gpu_tests:
                blocks += map(in_words, record.rows)
            else:
                blocks += _tables(module, record)
            blocks.append(provenance_line(record, standings[record.commit]))
        if not found:
            blocks.append("Not measured yet.")
    return "\n\n".join([*blocks, COLLECTIVES]) + "\n"


def _tables(module: ModuleType, record: Record) -> list[str]:
    blocks = []
    for name, title in module.TABLES.items():
        rows = [row for row in record.rows if row["table"] == name]
        if rows:
            blocks += [f"{title} {record.device}:", tables.comparisons(rows)]
    if any(row["axis"] for row in record.rows):
        blocks += [f"Growth on {record.device}:"]
        blocks += [tables.growth(record.rows, module.GROWTH)]
    return blocks


def provenance_line(record: Record, standing: Standing) -> str:
    """The machine, versions, date and commit of the figures, in one line."""
    machine = record.machine
    versions = ", ".join(
        f"{name} {machine[name]}" for name in ("jax", "jaxlib", "optax", "python")
    )
    cut = "" if record.complete else "; the run was cut short"
    return (
        f"*{record.device}, {machine['cpu_cores']} CPU cores; {versions}; "
        f"{record.date}; dtnh_jax {machine['dtnh_jax']}, measured at "
        f"{record.commit[:9]}{CHANGED if standing == 'changed' else ''}{cut}.*"
    )


def in_words(row: Mapping[str, Any]) -> str:
    """One row in one line."""
    if "counts" in row:
        counts = ", ".join(f"{n} {outcome}" for outcome, n in row["counts"].items())
        failed = f"; failed: {', '.join(row['failed'])}" if row["failed"] else ""
        cut = " before it was cut" if row["cut"] else ""
        return f"{counts or 'nothing ran'} in {row['seconds']:.0f} s{cut}{failed}."
    ratio = tables.spread(row["ratio"])
    limit = "" if row["limit"] is None else f", goal {tables.number(row['limit'])}"
    return f"{row['case']}: {row['ours']} / {row['reference']} = {ratio}{limit}"
