"""TensorBoard's event files: what ``metrics.jsonl`` says, and the conflict's picture.

Needs tensorboardX: to be imported by those who ask for it, and in process 0 alone.

Events are written by the thread that trains, and are on disk before a checkpoint is
begun: what a killed run has lost of them it does again. ``tensorboardX.SummaryWriter``
hands them to a thread instead, whose queue its ``flush`` does not wait for.
"""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore

from experiments.trainer.heat_map import HeatMap

# For so long what was written may not be seen yet.
DELAY_SECONDS = 5.0


class Events:
    """The event files of one run, in ``folder``; a context manager."""

    def __init__(
        self,
        folder: Path,
        kept: Iterable[dict[str, Any]],
        step: int,
        image_every: int,
    ):
        """Goes on after ``step``, in a new file, as TensorBoard has it.

        Args:
          folder: made where it is missing.
          kept: the lines of ``metrics.jsonl`` up to ``step``.
          step: the last one that is not done again.
          image_every: steps from picture to picture.
        """
        self._heat_map, self._image_every = HeatMap(), image_every
        # The steps of the last line and the last picture; when the last flush was.
        self._last = self._pictured = 0
        self._flushed = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        # Within a second, too, files are read in the order in which they were made.
        self._writer = EventsWriter(str(folder / "events"), f".{step:09}")
        # TensorBoard drops what it has of that step and of later ones. That step is
        # written again here, as its picture and its accuracy may be.
        start = SessionLog(status=SessionLog.START)
        self._writer.write_event(
            Event(step=step, wall_time=time.time(), session_log=start)
        )
        for line in kept:
            if line["step"] < step:
                self._heat_map.add(line)
                self._last = line["step"]
            else:
                self.write(**line)

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(self, **line: Any) -> None:
        """Adds what a line of ``metrics.jsonl`` says; that with an accuracy is last."""
        step, every = line["step"], self._image_every
        summary = Summary()
        for tag, number in _scalars(line).items():
            summary.value.add(tag=tag, simple_value=number)
        self._heat_map.add(line)
        due = step // every > self._last // every or "accuracy" in line
        if due and self._heat_map.columns and self._pictured < step:
            png, width, height = self._heat_map.draw()
            picture = summary.value.add(tag="conflict/cosine").image
            picture.width, picture.height, picture.colorspace = width, height, 4
            picture.encoded_image_string = png
            self._pictured = step
        self._last = step
        self._writer.write_event(
            Event(step=step, wall_time=time.time(), summary=summary)
        )
        if time.monotonic() - self._flushed > DELAY_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Returns when all is on disk."""
        self._writer.flush()
        self._flushed = time.monotonic()


def _scalars(line: dict[str, Any]) -> dict[str, float]:
    """The numbers in a line, by TensorBoard's tags."""
    tags = {
        "loss": "loss/empirical",
        "penalty": "loss/penalty",
        "learning_rate": "learning_rate",
        "conflict_rate": "conflict/rate",
        "accuracy": "accuracy/held_out",
    }
    named = {tag: line.get(name) for name, tag in tags.items()}
    named = {tag: number for tag, number in named.items() if number is not None}
    for group, report in line.get("groups", {}).items():
        named[f"cosine/{group}"] = report["cosine"]
        named[f"removed/{group}"] = report["removed"]
    return named
