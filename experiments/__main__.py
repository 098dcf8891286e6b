"""The command line: ``python -m experiments --help``."""

import sys
from collections.abc import Sequence

import tyro
from rich.console import Console

from experiments.commands import Report, Run
from experiments.errors import InputError
from experiments.finetune.command import Finetune
from experiments.finetune.predict import Predict
from experiments.training.interruption import Interrupted


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code; prints errors to stderr."""
    try:
        command = tyro.cli(
            Finetune | Predict | Run | Report,
            prog="python -m experiments",
            description="Fine-tune to your own images, and run studies of DTNH.",
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            args=None if arguments is None else list(arguments),
        )
        command(Console())
    except (InputError, FloatingPointError, OSError) as error:
        Console(stderr=True).print(f"error: {error}", markup=False, soft_wrap=True)
        return 1
    except (Interrupted, KeyboardInterrupt) as stopped:
        text = str(stopped) or "interrupted"
        Console(stderr=True).print(text, markup=False, soft_wrap=True)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
