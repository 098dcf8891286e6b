"""The command line: ``python -m benchmarks --help``."""

import subprocess
import sys

import tyro
from rich.console import Console

from benchmarks.collectives import Collectives
from benchmarks.compile import Compile
from benchmarks.import_time import ImportTime
from benchmarks.peers import Peers
from benchmarks.projection import Projection
from benchmarks.report.page import Report
from benchmarks.scaling import Scaling
from benchmarks.step import Step
from experiments.errors import InputError

TOGETHER = (Step, Projection, Compile, Scaling, Collectives, ImportTime)
# Peers by name only: they need packages that nothing else here does.
COMMANDS = {benchmark.name: benchmark for benchmark in (*TOGETHER, Peers)}


def main(arguments: list[str]) -> None:
    if not arguments or arguments == ["--quick"]:
        # A process each: memory that one leaves behind cannot slow down the next.
        for benchmark in TOGETHER:
            command = [sys.executable, "-m", "benchmarks", benchmark.name, *arguments]
            subprocess.run(command, check=True)
        return
    config = tyro.extras.subcommand_cli_from_dict(
        {**COMMANDS, "report": Report}, prog="python -m benchmarks", args=arguments
    )
    console = Console()
    try:
        written = config.run(console)
    except InputError as error:
        sys.exit(f"error: {error}")
    if written is not None:
        console.print(f"wrote: {written}")


if __name__ == "__main__":
    main(sys.argv[1:])
