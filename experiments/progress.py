"""Progress of a study on the terminal: a bar, plain lines, or nothing."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)


class Reporter:
    """Shows the progress of a study.

    A terminal shows one bar for the whole study, with the remaining time. A file or a
    pipe gets one plain line for every finished task.
    """

    def __init__(self, console: Console, quiet: bool = False):
        self.console = console
        self._quiet = quiet
        self._bar: Progress | None = None

    @property
    def live(self) -> bool:
        """Whether a moving bar may be shown instead of plain lines."""
        return not self._quiet and self.console.is_terminal

    @contextmanager
    def study(self, work: float) -> Iterator[None]:
        """Shows the bar; ``work`` is the sum of the work of its tasks."""
        if not self.live:
            yield
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as self._bar:
            self._bar.add_task("starting", total=work)
            yield
        self._bar = None

    @contextmanager
    def task(self, name: str, work: float) -> Iterator[Callable[[float], None]]:
        """One part of the study. Yields a function to call with each share done."""
        began = time.perf_counter()
        if self._bar is not None:
            bar, whole = self._bar, self._bar.task_ids[0]
            bar.update(whole, description=name)
            yield lambda share: bar.advance(whole, share * work)
        else:
            yield lambda _: None
        if self._bar is None:
            self.say(f"{name} ({time.perf_counter() - began:.1f} s)")

    def say(self, text: str) -> None:
        """Prints a plain line, above the bar if there is one."""
        if not self._quiet:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def result(self, text: str) -> None:
        """Prints a line in bold, even when quiet."""
        self.console.print(
            text, markup=False, highlight=False, style="bold", soft_wrap=True
        )

    def warn(self, text: str) -> None:
        """Prints a warning, even when quiet."""
        text = f"warning: {text}"
        self.console.print(text, markup=False, style="yellow", soft_wrap=True)
