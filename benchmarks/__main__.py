"""The command line: ``python -m benchmarks --help``."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import benchmarks
from benchmarks import gpu, provenance, records
from benchmarks.records import Record
from benchmarks.report import page
from benchmarks.report.page import BENCHMARKS
from experiments.errors import InputError

TOGETHER = [name for name in BENCHMARKS if name != "gpu_tests"]


def main(arguments: list[str]) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.check and options.name != "report":
        parser.error("--check is for report")
    try:
        if options.name == "report":
            return page.report(records.FOLDER, check=options.check)
        if options.name in BENCHMARKS:
            run(options.name, options.quick, options.commit, records.FOLDER)
            return 0
        rest = ["--quick"] * options.quick
        rest += ["--commit", options.commit] if options.commit else []
        if not options.quick:
            provenance.clean_commit(options.commit)  # fail before the measurements
        if options.name == "gpu":
            return gpu.run(rest)
        # One process each, so that memory left by one cannot slow down the next.
        commands = [[sys.executable, "-m", "benchmarks", x, *rest] for x in TOGETHER]
        codes = [subprocess.run(command).returncode for command in commands]
        return int(any(codes))  # not the greatest: one killed by a signal is below 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def run(name: str, quick: bool, commit: str | None, folder: Path) -> None:
    """Measures one benchmark, and writes the record after every case.

    Args:
      name: name of the benchmark.
      quick: try only the smallest cases, and write nothing.
      commit: the commit of a copy without git; otherwise git is asked.
      folder: folder of the record.

    Raises:
      InputError: if the tree has uncommitted changes.
    """
    commit = None if quick else provenance.clean_commit(commit)
    began, rows, where = time.perf_counter(), [], {}

    def write(complete: bool) -> None:
        if commit is not None:
            # Only after the first rows, because tests run before JAX takes the device.
            where.update(where or provenance.machine())
            record = Record(name, where, commit, records.today(), complete, rows)
            record.write(folder)

    for found in BENCHMARKS[name].measure(quick):
        rows += found
        for row in found:
            print(f"{time.perf_counter() - began:4.0f} s  {page.in_words(row)}")
        sys.stdout.flush()
        write(complete=False)
    write(complete=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=benchmarks.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [*BENCHMARKS, "report", "gpu"]
    parser.add_argument("name", nargs="?", choices=names, help="default: all")
    parser.add_argument(
        "--quick", action="store_true", help="try the smallest cases; write nothing"
    )
    parser.add_argument("--commit", help="the commit of a copy without git")
    parser.add_argument(
        "--check", action="store_true", help="report: only check what is out of date"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
