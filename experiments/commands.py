"""The commands that run a study and report it."""

import dataclasses
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from experiments import configs
from experiments.progress import Reporter
from experiments.report import publish
from experiments.run import run
from experiments.training.interruption import Interrupted


@dataclasses.dataclass(frozen=True)
class Run:
    """Run a study, or its missing cells, and report it.

    Writes cells.jsonl, report.md with its tables, and figures. There is a study for
    each file in experiments/configs, such as demo (three minutes on two cores) and
    never-hurt. With an unknown name, the error lists them all.
    """

    study: Positional[str]
    """Name of the study."""
    out: Path | None = None
    """Folder for the results, by default runs/STUDY; created if missing."""
    cache: Path = Path("runs/cache")
    """Folder where pretrained networks are kept between runs."""
    seeds: int | None = None
    """Number of independent repetitions, at least 2; by default that of the study."""
    quick: bool = False
    """Use 2 seeds, 10 steps, 2 weights, 2 tasks, only to check that the study runs."""
    quiet: bool = False
    """Print only the results, no progress."""

    def __call__(self, console: Console) -> None:
        study = configs.study(self.study)
        study = study.quick() if self.quick else study
        if self.seeds is not None:
            study = dataclasses.replace(study, seeds=self.seeds)
        out = self.out or Path("runs") / (self.study + "-quick" * self.quick)
        reporter = Reporter(console, self.quiet)
        try:
            run(study, out, self.cache, reporter)
        except (Interrupted, KeyboardInterrupt):
            raise Interrupted(
                f"interrupted; the finished cells are in {out}/cells.jsonl, and the "
                "same command resumes after them"
            ) from None
        publish(out, console)
        reporter.say(f"written to {out}/")


@dataclasses.dataclass(frozen=True)
class Report:
    """Remake the tables and figures of a study, finished or not, from cells.jsonl."""

    folder: Positional[Path]
    """Folder of the study."""

    def __call__(self, console: Console) -> None:
        publish(self.folder, console)
