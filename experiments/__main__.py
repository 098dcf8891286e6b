"""The command line: ``python -m experiments --help``."""

import sys
from collections.abc import Sequence
from typing import Annotated, TypeVar

import tyro
from rich.console import Console

from experiments.data import prepare
from experiments.demo import command as demo
from experiments.errors import InputError
from experiments.grid import command as grid
from experiments.never_hurt import command as never_hurt
from experiments.trainer import command as trainer
from experiments.trainer.config import Train

T = TypeVar("T")
# Options without a prefix, and switches without their "--no-" twin.
Plain = Annotated[T, tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit code: 0, or 1 with a message on stderr."""
    app = tyro.extras.SubcommandApp()

    @app.command(name="demo")
    def _demo(study: Plain[demo.Demo]) -> None:
        """Compare regularizers with plain fine-tuning; about three minutes."""
        demo.run(study, Console())

    @app.command(name="never-hurt")
    def _never_hurt(study: Plain[never_hurt.NeverHurt]) -> None:
        """Hold every rule against plain fine-tuning; about 40 minutes, resumable."""
        never_hurt.run(study, Console())

    @app.command(name="train")
    def _train(config: Plain[Train]) -> None:
        """Train one network for long, in several processes; resumable."""
        trainer.train(config, Console())

    @app.command(name="data")
    def _data(config: Plain[prepare.Data]) -> None:
        """Prepare a data set of photographs, and show what there is."""
        prepare.run(config, Console())

    @app.command(name="grid")
    def _grid(run: Plain[grid.RunGrid]) -> None:
        """Run a grid of the paper's experiments by name; resumable."""
        grid.run_grid(run, Console())

    @app.command(name="report")
    def _report(report: Plain[grid.Report]) -> None:
        """Write the report of a grid, whole or not: Markdown and one HTML page."""
        grid.write_report(report, Console())

    try:
        app.cli(
            prog="python -m experiments",
            description="Fine-tuning experiments that show DTNH at work.",
            args=None if arguments is None else list(arguments),
        )
    except (InputError, FloatingPointError, ChildProcessError) as error:
        Console(stderr=True).print(f"error: {error}", markup=False, soft_wrap=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
