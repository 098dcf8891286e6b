"""The conflict of a run as a picture: each group's cosine over the steps."""

import io
from typing import Any

from matplotlib.figure import Figure

from dtnh_jax import plot_conflict

# More columns than pixels would not be seen, and of a long run they would fill memory.
COLUMNS = 1000
DOTS_PER_INCH = 100


class HeatMap:
    """Gathers a column for each logged step, or for every 2nd, 4th, ... of a long run.

    Attributes:
      columns: the step and the ``conflict_report`` of each.
    """

    def __init__(self):
        self.columns: list[tuple[int, dict[str, Any]]] = []
        self._seen, self._stride = 0, 1

    def add(self, line: dict[str, Any]) -> None:
        """Takes a line of ``metrics.jsonl``; one without groups is left out."""
        if not line.get("groups"):
            return
        if self._seen % self._stride == 0:
            self.columns.append((line["step"], line["groups"]))
        self._seen += 1
        if len(self.columns) > COLUMNS:
            self.columns = self.columns[::2]
            self._stride *= 2

    def draw(self) -> tuple[bytes, int, int]:
        """A PNG file, its width and height in pixels; there must be a column."""
        steps, reports = zip(*self.columns, strict=True)
        # Not by pyplot, which keeps every figure, and opens a window where it can.
        figure = Figure((8, 2 + 0.18 * len(reports[0])), DOTS_PER_INCH)
        figure.set_layout_engine("constrained")
        plot_conflict(reports, steps=steps, ax=figure.subplots())
        file = io.BytesIO()
        figure.savefig(file, format="png")
        width, height = figure.canvas.get_width_height()
        return file.getvalue(), width, height
