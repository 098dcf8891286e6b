"""The command ``finetune``: from a folder of images to a network and a report."""

import contextlib
import dataclasses
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
from rich.console import Console
from tyro.conf import Positional, arg

from experiments import cell, digests
from experiments.data import files, read_folder
from experiments.errors import InputError, make_folder
from experiments.finetune import live, report, saved
from experiments.finetune.compared import (
    METHODS,
    WEIGHT,
    choose,
    doubts,
    outcome,
    sentence,
)
from experiments.finetune.split import split
from experiments.finetune.views import MARGIN, through_frozen_part
from experiments.methods import method
from experiments.networks import Upper, stages_of
from experiments.progress import Reporter
from experiments.provenance import about
from experiments.recipe import Recipe
from experiments.training import devices
from experiments.training.checkpoints import Checkpoints
from experiments.training.interruption import Interrupted
from experiments.training.job import CHUNKS
from experiments.training.loop import fit

# Default length of training.
LEAST_STEPS, PASSES = 100, 5


@dataclasses.dataclass(frozen=True)
class Finetune:
    """Fine-tune a pretrained network to your own images, and see what DTNH changes.

    FOLDER has one folder of images per class, or train/ val/ test/ with such folders.
    Trains by plain fine-tuning and by the steady rule of DTNH, chooses between them on
    validation images, and writes report.html and the network, for `predict`. To resume
    an interrupted run, run the same command again.
    """

    folder: Positional[Path]
    """Folder, zip or tar file with the images."""
    out: Path | None = None
    """Folder of the run, by default runs/finetune/FOLDER; created if missing."""
    cache: Path = Path("runs/cache")
    """Folder for decoded images and the outputs of the frozen part."""
    network: str = "efficientnet-lite0"
    """efficientnet-lite0, resnet18, resnet50 or resnet101."""
    weights: Path | None = None
    """Weight file; by default from a package or the Hugging Face hub."""
    frozen: Annotated[int | None, arg(name="from")] = None
    """Number of frozen stages, counted from the input; by default all but the last; 0
    trains the whole network."""
    side: int = 160
    """Height and width in pixels of the crop that the network sees."""
    steps: int | None = None
    """Updates; by default 100, or 5 passes over the images if that is more."""
    batch_size: int = 32
    """Images per update."""
    learning_rate: float = 0.003
    """Step size of SGD with momentum 0.9."""
    seeds: int = 3
    """Repetitions, at least 2. Seeds vary the head, the order and held-out images."""
    skip_damaged: bool = False
    """Leave out images that cannot be read, with a warning."""
    layout: Literal["data", "fsdp"] = "data"
    """How devices share the state: each has all of it (data) or a part (fsdp)."""
    tensorboard: bool = False
    """Write loss, conflict and pull for TensorBoard to tensorboard/ in the run."""
    distributed: bool = False
    """Join the other processes of this run, one per host, as detected by JAX."""
    quiet: bool = False
    """Print only the result, no progress."""

    def __call__(self, console: Console) -> None:
        if self.distributed:
            devices.join()
        self.check()
        if jax.process_index() > 0:  # only the first process prints
            console = Console(quiet=True)
        reporter = Reporter(console, self.quiet)
        try:
            run(self, reporter)
        except Interrupted as stopped:
            raise Interrupted(
                f"{stopped}, and saved in {self.place}; the same command resumes there"
            ) from None

    @property
    def place(self) -> Path:
        """The folder of the run."""
        return self.out or Path("runs/finetune") / files.stem(self.folder)

    @property
    def spec(self) -> Upper:
        """The network, without its classes."""
        stages = stages_of(self.network)
        frozen = len(stages) - 1 if self.frozen is None else self.frozen
        if not 0 <= frozen <= len(stages):
            raise InputError(
                f"--from must be in 0..{len(stages)}, the stages of {self.network}, "
                f"got {frozen}"
            )
        start = stages[frozen - 1] if frozen else None
        weights = None if self.weights is None else str(self.weights)
        return Upper(self.network, start, weights=weights)

    @property
    def recipe(self) -> Recipe:
        """How to train, except for what depends on the number of images."""
        return Recipe(
            LEAST_STEPS if self.steps is None else self.steps,
            self.batch_size,
            self.learning_rate,
            crop=None if self.spec.start else self.side,
        )

    def check(self) -> None:
        """Raises an ``InputError`` for anything wrong that shows before any work."""
        for name, least in {"side": 32, "seeds": 2}.items():
            if getattr(self, name) < least:
                raise InputError(
                    f"{name} must be at least {least}, got {getattr(self, name)}"
                )
        if (self.place / saved.FOLDER / saved.ABOUT).exists():
            raise InputError(
                f"{self.place} holds a finished run: see report.html there, pass "
                "another --out, or remove it"
            )
        if self.weights is not None and not self.weights.is_file():
            raise InputError(f"no such file: {self.weights}")
        for name, path in {"--out": self.place, "--cache": self.cache}.items():
            if path.resolve().is_relative_to(self.folder.resolve()):
                raise InputError(
                    f"{name} must not be inside the folder of images, got {path}"
                )
        if self.tensorboard:
            live.check()
        _ = self.spec, self.recipe
        make_folder(self.cache)


def run(config: Finetune, reporter: Reporter) -> None:
    """Runs the command, from the images to the report.

    Raises:
      InputError: if the images cannot be used, or the folder holds another run.
      FloatingPointError: if training diverges.
      Interrupted: after Ctrl-C or SIGTERM.
    """
    pixels, target = devices.in_turn(lambda: _target(config, reporter))
    spec = dataclasses.replace(config.spec, classes=target.dataset.classes)
    body = spec.pretrained()
    params = jax.tree.map(lambda x: np.broadcast_to(x, (config.seeds, *x.shape)), body)
    # Train to the last step: with few validation images, the best step is random.
    pair = cell.pair(spec, params, dataclasses.replace(target, validation=None))
    recipe = _recipe(config, target, pixels.train.shape[1])
    settings = _settings(config, target, recipe)
    over = devices.layout(config.layout)
    outcomes = []
    work = {name: 1 + method(name).distills for name in METHODS}
    with reporter.study(sum(work.values())):
        for name in METHODS:
            job = pair.job(method(name), WEIGHT, recipe)
            folder = name.replace("/", "-")
            with (
                reporter.task(method(name).label, work[name]) as advanced,
                Checkpoints(
                    config.place / "checkpoints" / folder, settings, reporter.say
                ) as checkpoints,
                _live(config, folder) as shown,
            ):
                fitted = fit(job, advanced, checkpoints, over, shown)
            outcomes.append(outcome(name, job, fitted, target))
    for text in doubts(outcomes, job, target.test):
        reporter.warn(text)
    if jax.process_index() == 0:
        _write(config, spec, pixels, outcomes, settings)
    reporter.result(sentence(outcomes, target.test.shape[1]))
    reporter.say(f"written to {config.place}/: report.html, network/")


def _live(
    config: Finetune, folder: str
) -> contextlib.AbstractContextManager[live.Live | None]:
    if not config.tensorboard or jax.process_index() > 0:
        return contextlib.nullcontext()
    return contextlib.closing(live.Live(config.place / "tensorboard" / folder))


def _target(config: Finetune, reporter: Reporter) -> tuple[cell.Target, cell.Target]:
    """The task twice: with images as pixels, and as the network takes them."""
    read = round(MARGIN * config.side)
    with reporter.study(1), reporter.task("reading images", 1) as advanced:
        splits = read_folder(
            config.folder, read, cache=config.cache, skip_damaged=config.skip_damaged,
            warn=reporter.warn, advanced=advanced,
        )  # fmt: skip
    pixels = split(splits, config.seeds, reporter.say)
    if config.spec.start is None:
        return pixels, pixels
    with reporter.study(1), reporter.task("frozen part", 1) as advanced:
        target = through_frozen_part(
            config.spec, pixels, config.side, config.cache, advanced
        )
    return pixels, target


def _recipe(config: Finetune, target: cell.Target, images: int) -> Recipe:
    """How to train on this many images, each seen in several views."""
    batch_size = min(config.batch_size, target.train.shape[1])
    passes = -(-PASSES * images // batch_size)
    # A multiple of the number of chunks, so that the run shows and saves progress.
    steps = config.steps or max(LEAST_STEPS, CHUNKS * -(-passes // CHUNKS))
    return dataclasses.replace(config.recipe, steps=steps, batch_size=batch_size)


def _settings(config: Finetune, target: cell.Target, recipe: Recipe) -> dict[str, Any]:
    """A JSON object with everything that determines the result."""
    free = ("folder", "out", "cache", "weights", "steps", "skip_damaged")
    free += ("layout", "distributed", "tensorboard", "quiet")
    fields = dataclasses.asdict(config)
    return {
        **{name: value for name, value in fields.items() if name not in free},
        "steps": recipe.steps,
        "weights": None if config.weights is None else digests.of_file(config.weights),
        "images": digests.of_arrays(target.dataset.images, target.dataset.labels),
    }


def _write(config, spec, pixels, outcomes, settings) -> None:
    out = config.place
    chosen = choose(outcomes)
    params = jax.tree.map(lambda x: np.asarray(x[chosen.seed]), chosen.fitted.params)
    command = shlex.join(["python", "-m", "experiments", *sys.argv[1:]])
    described = {
        "classes": list(pixels.dataset.class_names),
        "preprocessing": {
            "resize": round(MARGIN * config.side),
            "crop": config.side,
            "note": "resize the shorter side to `resize` pixels (bicubic), crop the "
            "middle square of `crop` pixels; uint8 RGB, normalized inside the network",
        },
        "method": chosen.name,
        "weight": None if chosen.method.rule is None else WEIGHT,
        "seed": chosen.seed,
        "test_accuracy": chosen.record["accuracy"][chosen.seed],
        "command": command,
        "made_with": about(settings),
        "results": {one.name: one.record for one in outcomes},
    }
    report.write(out, pixels, outcomes, described)
    saved.save(out, spec, params, described)
    shutil.rmtree(out / "checkpoints")
