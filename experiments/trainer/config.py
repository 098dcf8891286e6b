"""What to train, and how: the options of ``python -m experiments train``."""

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any, Literal

from experiments.errors import InputError, unknown
from experiments.methods import method
from experiments.networks import NETWORKS
from experiments.recipe import Recipe

SMALL = "small"
DETECT = "detect"


@dataclasses.dataclass(frozen=True)
class Train:
    """Fine-tune one network; goes on where it was when it is run again.

    Writes checkpoints and metrics.jsonl. On SIGTERM it saves and ends.
    """

    out: Path = Path("runs/train/default")
    """Folder of the run; made where it is missing. All processes need to see it."""
    cache: Path = Path("runs/cache")
    """Folder of pretrained networks and compiled programs."""
    data: str = "digits"
    """Data set to fine-tune to: a small one, or photographs for a large network."""
    split: str = "train"
    """Of the photographs; the small data sets have none."""
    network: str = SMALL
    """"small", or a network with ImageNet's weights: resnet18, efficientnet-lite0..."""
    side: int = 64
    """Height and width of photographs in pixels; the small network's images have 8."""
    source: str = "mnist"
    """Data set to pretrain the small network on."""
    epochs: int = 5
    """Passes over the source in pretraining."""
    method: str = "dtnh-layer"
    """How to fine-tune: plain, l2-sp, dtnh-layer, kd, kd-layer, ..."""
    weight: float = 0.1
    """λ of the regularizer; of no account to a method without one."""
    per_class: int = 100
    """Training images of each class; the others are held out."""
    steps: int = 1000
    """Updates."""
    batch_size: int = 32
    """Images in an update, over all devices."""
    learning_rate: float = 0.01
    """Until it falls."""
    optimizer: str = "sgd"
    """sgd (with momentum 0.9) or adam."""
    falls_at: float = 1.0
    """Share of the steps after which the learning rate is a tenth; 1 for never."""
    crop: int | None = None
    """Side of a random part of each training image, mirrored by chance."""
    seed: int = 0
    """Of the new head, the images to train on, their order and their crops."""
    layout: Literal["data", "fsdp"] = "data"
    """data: every device has the whole state; fsdp: each has its share of it."""
    save_every: int = 100
    """Steps from checkpoint to checkpoint."""
    keep: int = 3
    """How many checkpoints stay."""
    log_every: int = 10
    """Steps from line to line of metrics.jsonl."""
    tensorboard: bool = False
    """Write event files for TensorBoard too, into tensorboard/ in that folder."""
    image_every: int = 500
    """Steps from heat map to heat map in TensorBoard."""
    processes: int = 1
    """How many; on this machine, unless --process-id is given."""
    coordinator: str | None = None
    """HOST:PORT of process 0, or "detect" where JAX knows the cluster (Slurm, ...)."""
    process_id: int | None = None
    """Which process of a cluster this one is, from 0."""
    heartbeat: int = 100
    """Seconds without a sign of life after which a process counts as dead."""
    quiet: bool = False
    """Plain lines even on a terminal, as for a log: nothing moves, no colours."""

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            self.steps,
            self.batch_size,
            self.learning_rate,
            self.optimizer,
            self.falls_at,
            self.crop,
        )


# What may be different when a run goes on: where and how it computes, not what.
FREE = (
    *("out", "cache", "layout", "save_every", "keep", "log_every", "quiet"),
    *("tensorboard", "image_every"),
    *("processes", "coordinator", "process_id", "heartbeat"),
)
AT_LEAST_ONE = (
    *("epochs", "save_every", "keep", "log_every", "image_every"),
    *("processes", "heartbeat"),
)


def settings(config: Train) -> dict[str, Any]:
    """What determines the numbers of a run, as it is read from JSON."""
    fields = dataclasses.asdict(config).items()
    return json.loads(json.dumps({key: x for key, x in fields if key not in FREE}))


def check(config: Train) -> None:
    """Raises an ``InputError`` for what can be seen to be wrong before any work."""
    for name in AT_LEAST_ONE:
        if getattr(config, name) < 1:
            raise InputError(f"{name} must be at least 1, got {getattr(config, name)}")
    if config.weight < 0:
        raise InputError(f"weight λ must not be negative, got {config.weight:g}")
    if config.network not in (SMALL, *NETWORKS):
        raise unknown("network", config.network, (SMALL, *NETWORKS))
    if config.network == SMALL and config.crop is not None:
        raise InputError("the small network takes whole images: leave out --crop")
    if config.crop is not None and not 0 < config.crop <= config.side:
        raise InputError(f"crop must be in 1..{config.side}, got {config.crop}")
    if config.tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise InputError(
            "--tensorboard needs the package tensorboardX: pip install "
            "'dtnh-jax[tensorboard]'"
        )
    _check_place(config)
    method(config.method)
    _ = config.recipe


def _check_place(config: Train) -> None:
    if config.coordinator == DETECT:
        return
    if (config.coordinator is None) != (config.process_id is None):
        raise InputError("--coordinator and --process-id go together, with --processes")
    if config.process_id is not None and not 0 <= config.process_id < config.processes:
        raise InputError(
            f"--process-id must be in 0..{config.processes - 1} (--processes less "
            f"one), got {config.process_id}"
        )
