"""The results of a benchmark on one device, as JSON in ``benchmarks/results``."""

import dataclasses
import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.provenance import ROOT

FOLDER = ROOT / "benchmarks" / "results"


@dataclasses.dataclass(frozen=True)
class Record:
    """All rows of one benchmark on one device.

    Attributes:
      benchmark: name of the benchmark, as on the command line.
      machine: see :func:`benchmarks.provenance.machine`.
      commit: commit of the code.
      date: day of the run, ISO 8601, UTC.
      complete: False if the run was cut short.
      rows: the results, in the format of the benchmark.
    """

    benchmark: str
    machine: dict[str, Any]
    commit: str
    date: str
    complete: bool
    rows: Sequence[Any]

    @property
    def device(self) -> str:
        """The name of the device; for a CPU, that of the processor."""
        return self.machine["cpu" if self.machine["platform"] == "cpu" else "device"]

    def write(self, folder: Path) -> Path:
        """Writes ``folder/BENCHMARK-DEVICE.json`` atomically and returns its path."""
        folder.mkdir(parents=True, exist_ok=True)
        device = self.machine["device"].lower().replace(" ", "-")
        path = folder / f"{self.benchmark}-{device}.json"
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")
        return unfinished.replace(path)


def today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def read(folder: Path) -> list[Record]:
    """All records, those of CPUs first."""
    paths = sorted(folder.glob("*.json"))
    records = [Record(**json.loads(path.read_text())) for path in paths]
    return sorted(records, key=lambda record: record.machine["platform"] != "cpu")
