"""The file ``metrics.jsonl`` of a run: a line each for some of the steps."""

import json
from pathlib import Path
from typing import Any

import jax


class Metrics:
    """Written by process 0; what the others are given is dropped.

    Attributes:
      kept: the lines of the steps that are not done again; in process 0 alone.
    """

    def __init__(self, path: Path, step: int):
        """Goes on after ``step``, the last one that is not done again.

        Lines of later steps, and one that was cut off as it was written, are removed.
        """
        self.kept: list[dict[str, Any]] = []
        self._path = path if jax.process_index() == 0 else None
        if self._path is None:
            return
        lines = read(path) if path.exists() else []
        self.kept = [line for line in lines if "loss" in line and line["step"] <= step]
        partial = path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in self.kept))
        partial.replace(path)

    def write(self, **line: Any) -> None:
        """Adds a line, which is in the file when this returns."""
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """The lines, but for one at the end that was cut off as it was written."""
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
