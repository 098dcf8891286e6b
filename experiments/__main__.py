"""The command line: ``python -m experiments --help``."""

import sys
from collections.abc import Sequence
from typing import Annotated, TypeVar

import tyro
from rich.console import Console

from experiments.demo import Demo, run
from experiments.errors import InputError

T = TypeVar("T")
# Options without a prefix, and switches without their "--no-" twin.
Plain = Annotated[T, tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit code: 0, or 1 with a message on stderr."""
    app = tyro.extras.SubcommandApp()

    @app.command(name="demo")
    def _demo(demo: Plain[Demo]) -> None:
        """Fine-tune pretrained networks five ways; about a minute and a half."""
        run(demo, Console())

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
