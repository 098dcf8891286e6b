"""The command line: ``python -m experiments --help``."""

import sys
from collections.abc import Sequence
from typing import Annotated, TypeVar

import tyro
from rich.console import Console

from experiments import demo, never_hurt
from experiments.demo import Demo
from experiments.errors import InputError
from experiments.never_hurt import NeverHurt

T = TypeVar("T")
# Options without a prefix, and switches without their "--no-" twin.
Plain = Annotated[T, tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit code: 0, or 1 with a message on stderr."""
    app = tyro.extras.SubcommandApp()

    @app.command(name="demo")
    def _demo(study: Plain[Demo]) -> None:
        """Fine-tune pretrained networks eight ways; about two minutes."""
        demo.run(study, Console())

    @app.command(name="never-hurt")
    def _never_hurt(study: Plain[NeverHurt]) -> None:
        """Hold every rule against plain fine-tuning; about 40 minutes, resumable."""
        never_hurt.run(study, Console())

    try:
        app.cli(
            prog="python -m experiments",
            description="Fine-tuning experiments that show DTNH at work.",
            args=None if arguments is None else list(arguments),
        )
    except (InputError, FloatingPointError) as error:
        Console(stderr=True).print(f"error: {error}", markup=False, soft_wrap=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
