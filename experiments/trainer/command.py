"""The command ``train``."""

import os

import jax
from rich.console import Console

from experiments.errors import InputError
from experiments.progress import Reporter
from experiments.trainer.config import Train, check
from experiments.trainer.launch import launch
from experiments.trainer.loop import Outcome, run
from experiments.trainer.processes import joined


def train(config: Train, console: Console) -> None:
    """Runs to the end, or until SIGTERM; in this process or in several new ones.

    Raises:
      InputError: if a request cannot be served.
      FloatingPointError: if training diverges.
      ChildProcessError: if one of several processes fails.
    """
    check(config)
    if config.quiet:
        console = Console(file=console.file, force_terminal=False)
    if config.processes > 1 and config.coordinator is None:
        try:
            launch(config, work)
        finally:
            console.show_cursor()  # a process that was killed leaves it hidden
        return
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        # A run that goes on need not compile again.
        folder = str(config.cache.resolve() / "compiled")
        jax.config.update("jax_compilation_cache_dir", folder)
    with joined(config):
        reporter = Reporter(console, quiet=jax.process_index() > 0)
        reporter.say(_told(config, run(config, reporter)))


def _told(config: Train, outcome: Outcome) -> str:
    if outcome.accuracy is None:
        return (
            f"stopped at step {int(outcome.state.step)} of {config.steps} and saved; "
            "the same command goes on"
        )
    return (
        f"{100 * outcome.accuracy:.2f} % of the held-out images are right; written to "
        f"{config.out}/"
    )


def work(config: Train) -> int:
    """What a process that ``launch`` started does; gives its exit code."""
    try:
        train(config, Console())
    except (InputError, FloatingPointError) as error:
        if config.process_id == 0:
            Console(stderr=True).print(f"error: {error}", markup=False, soft_wrap=True)
        return 1
    return 0
