"""What a benchmark found, and on what machine: JSON files in ``benchmarks/results``."""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import dtnh_jax
from benchmarks.timing import Program, Quartiles, quartiles, ratio

ROOT = Path(__file__).parents[1]
FOLDER = Path("benchmarks/results")
GENERATED = ("benchmarks/results", "benchmarks/README.md")


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison: ours beside a reference, timed in the same repetitions.

    Attributes:
      case: what is compared, such as "L2-SP, ResNet-18, 32 px, batch 32".
      ours: what the numerator of the ratio is.
      reference: what the denominator is.
      ratio: of the times, ours to reference.
      ours_ms: milliseconds of a call of ours.
      reference_ms: milliseconds of a call of the reference.
      repetitions: number of timed calls of each.
      compile_s: seconds of tracing, lowering and compiling, ``ours`` and ``reference``.
      temporary_mb: MB beside arguments and results, ``ours`` and ``reference``.
      floor: the ratio that no implementation can go below; None where there is none.
      target: the ratio that we want to keep below; None where there is none.
      extra: further figures of this benchmark, by heading with the unit.
    """

    case: str
    ours: str
    reference: str
    ratio: Quartiles
    ours_ms: Quartiles
    reference_ms: Quartiles
    repetitions: int
    compile_s: dict[str, float]
    temporary_mb: dict[str, float | None]
    floor: float | None = None
    target: float | None = None
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)


def compared(
    case: str,
    ours: str,
    reference: str,
    programs: dict[str, Program],
    times: dict[str, np.ndarray],
    *,
    floor: float | None = None,
    target: float | None = None,
    extra: dict[str, Any] | None = None,
) -> Row:
    """The row of two of the ``programs``, named by ``ours`` and ``reference``."""
    sides = {"ours": programs[ours], "reference": programs[reference]}
    return Row(
        case=case,
        ours=ours,
        reference=reference,
        ratio=ratio(times[ours], times[reference]),
        ours_ms=quartiles(1e3 * times[ours]),
        reference_ms=quartiles(1e3 * times[reference]),
        repetitions=len(times[ours]),
        compile_s={
            side: p.trace_seconds + p.compile_seconds for side, p in sides.items()
        },
        temporary_mb={side: p.temporary_mb for side, p in sides.items()},
        floor=floor,
        target=target,
        extra=extra or {},
    )


@dataclasses.dataclass(frozen=True)
class Record:
    """All rows of one benchmark on one machine.

    Attributes:
      benchmark: its name, as on the command line.
      machine: see :func:`machine`.
      commit: of the code that ran, "-dirty" behind it if files differed from it.
      date: day of the run, ISO 8601, UTC.
      options: the benchmark's configuration.
      rows: :class:`Row` as dicts, or what the benchmark's own tables are made of.
    """

    benchmark: str
    machine: dict[str, Any]
    commit: str
    date: str
    options: dict[str, Any]
    rows: list[dict[str, Any]]


def machine() -> dict[str, Any]:
    """Versions, device and cores."""
    device = jax.devices()[0]
    return {
        "dtnh_jax": dtnh_jax.__version__,
        "jax": jax.__version__,
        "jaxlib": importlib.metadata.version("jaxlib"),
        "optax": optax.__version__,
        "python": platform.python_version(),
        "platform": device.platform,
        "device": device.device_kind,
        "device_count": jax.device_count(),
        "cpu": _cpu(),
        "cpu_cores": os.cpu_count(),
    }


def write(
    benchmark: str, config: Any, rows: Iterable[Row | dict[str, Any]], folder: Path
) -> Path:
    """Writes ``folder/BENCHMARK-DEVICE.json``, and returns its path.

    Args:
      benchmark: its name, as on the command line.
      config: its configuration, a dataclass.
      rows: what it found.
      folder: made where it is missing.
    """
    record = Record(
        benchmark=benchmark,
        machine=machine(),
        commit=_commit(),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        options=dataclasses.asdict(config),
        rows=[as_dict(row) for row in rows],
    )
    folder.mkdir(parents=True, exist_ok=True)
    device = record.machine["device"].lower().replace(" ", "-")
    path = folder / f"{benchmark}-{device}.json"
    text = json.dumps(dataclasses.asdict(record), indent=1, default=str)
    path.write_text(text + "\n")
    return path


def read(benchmark: str, folder: Path = FOLDER) -> list[Record]:
    """The records of one benchmark, one a device; the CPU's first."""
    paths = sorted(folder.glob(f"{benchmark}-*.json"))
    records = [Record(**json.loads(path.read_text())) for path in paths]
    records = [record for record in records if record.benchmark == benchmark]
    return sorted(records, key=lambda record: record.machine["platform"] != "cpu")


def as_dict(row: Row | dict[str, Any]) -> dict[str, Any]:
    if isinstance(row, dict):
        return row
    fields = dataclasses.asdict(row)
    for name, value in vars(row).items():
        if isinstance(value, Quartiles):
            fields[name] = value._asdict()
    return fields


def _cpu() -> str:
    """The processor's name, which Python itself does not know on Linux."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True)
        return done.stdout.decode().strip() if done.returncode == 0 else ""

    changed = git("status", "--porcelain", "--", ".", *(f":!{x}" for x in GENERATED))
    return (git("rev-parse", "--short", "HEAD") or "unknown") + "-dirty" * bool(changed)
