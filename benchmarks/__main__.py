"""The command line: ``python -m benchmarks --help``."""

import tyro
from rich.console import Console

from benchmarks.projection import Projection, run

if __name__ == "__main__":
    run(tyro.cli(Projection, prog="python -m benchmarks"), Console())
