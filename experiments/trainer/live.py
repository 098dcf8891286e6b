"""What a run shows while it trains: a line that moves, or plain lines for a log."""

import time
from datetime import timedelta
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from experiments.progress import Reporter

# From plain line to plain line, at least.
SECONDS = 10.0


class Live:
    """Shows how far a run is, and what it has found; a context manager.

    On a terminal one line moves, and stays with the last values when the run ends.
    Elsewhere there is a plain line for a logged step now and then.
    """

    def __init__(self, reporter: Reporter, name: str, steps: int, done: int):
        """``name`` says what is trained; ``done`` of all ``steps`` are done already."""
        self._reporter, self._name, self._steps = reporter, name, steps
        # When the last plain line was, and after how many steps.
        self._before: tuple[float, int] | None = None
        self._found: dict[str, Any] = {}
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[found]}"),
            _StepsPerSecond(),
            TimeRemainingColumn(),
            console=reporter.console,
            disable=not reporter.live,
        )
        self._task = self._bar.add_task(name, total=steps, completed=done, found="")

    def __enter__(self) -> "Live":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self) -> None:
        """One more step is under way."""
        self._bar.advance(self._task)

    def write(self, **line: Any) -> None:
        """Shows what a line of ``metrics.jsonl`` says."""
        self._found |= line
        self._bar.update(self._task, found=_told(self._found))
        if self._reporter.live:
            return
        now, step = time.monotonic(), line["step"]
        if self._before is None or "accuracy" in line:
            self._say()  # no speed: of the first, compiling took most of the time
        elif now - self._before[0] >= SECONDS and step > self._before[1]:
            speed = (step - self._before[1]) / (now - self._before[0])
            left = timedelta(seconds=round((self._steps - step) / speed))
            self._say(f"{speed:.1f} steps/s", f"{left} left")
        else:
            return
        self._before = now, step

    def _say(self, *more: str) -> None:
        found = ", ".join((_told(self._found), *more))
        step = self._found["step"]
        self._reporter.say(f"{self._name}: step {step}/{self._steps}: {found}")


class _StepsPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} steps/s")


def _told(line: dict[str, Any]) -> str:
    """Loss, accuracy and conflict rate, as far as there are any."""
    parts = []
    if (loss := line.get("loss")) is not None:
        parts.append(f"loss {loss:.4f}")
    if (accuracy := line.get("accuracy")) is not None:
        parts.append(f"accuracy {100 * accuracy:.2f} %")
    if (rate := line.get("conflict_rate")) is not None:
        parts.append(f"conflict {100 * rate:.0f} %")
    return ", ".join(parts)
