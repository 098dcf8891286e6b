"""What a benchmark found, and on what machine: JSON files in ``benchmarks/results``."""

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import commit, machine

FOLDER = Path("benchmarks/results")
# The tables of each benchmark know what its rows hold.
Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Record:
    """All rows of one benchmark on one machine.

    Attributes:
      benchmark: its name, as on the command line.
      machine: see :func:`benchmarks.machine.machine`.
      commit: of the code that ran, "-dirty" behind it if files differed from it.
      date: day of the run, ISO 8601, UTC.
      options: the benchmark's options.
      rows: what it found.
    """

    benchmark: str
    machine: dict[str, Any]
    commit: str
    date: str
    options: dict[str, Any]
    rows: Sequence[Row]

    @property
    def device(self) -> str:
        """The device's name: for a CPU the processor's."""
        return self.machine["cpu" if self.machine["platform"] == "cpu" else "device"]

    @property
    def stem(self) -> str:
        """What the names of its files begin with: ``BENCHMARK-DEVICE``."""
        return f"{self.benchmark}-{self.machine['device'].lower().replace(' ', '-')}"


def write(
    benchmark: str, options: dict[str, Any], rows: Sequence[Row], folder: Path
) -> Path:
    """Writes ``folder/BENCHMARK-DEVICE.json``, and returns its path.

    Args:
      benchmark: its name, as on the command line.
      options: its options.
      rows: what it found.
      folder: made where it is missing.
    """
    record = Record(
        benchmark=benchmark,
        machine=machine(),
        commit=commit(),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        options=options,
        rows=rows,
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record.stem}.json"
    text = json.dumps(dataclasses.asdict(record), indent=1, default=str)
    path.write_text(text + "\n")
    return path


def read(benchmark: str, folder: Path) -> list[Record]:
    """The records of one benchmark, one a device; the CPU's first."""
    paths = sorted(folder.glob(f"{benchmark}-*.json"))
    records = [Record(**json.loads(path.read_text())) for path in paths]
    records = [record for record in records if record.benchmark == benchmark]
    return sorted(records, key=lambda record: record.machine["platform"] != "cpu")
