"""What two runs came to."""

import functools

import event_files
import jax
import numpy as np

from experiments.trainer import layout, names
from experiments.trainer.checkpoint import Checkpoints
from experiments.trainer.config import settings
from experiments.trainer.metrics import read
from experiments.trainer.start import starting_point
from experiments.trainer.step import initial
from experiments.trainer.task import task_of


def state(config):
    """The newest state of a run, on this process's one device, as flat NumPy arrays."""
    task = task_of(config)
    params, reference, digest = starting_point(config, task)
    like = jax.eval_shape(functools.partial(initial, task), params, reference)
    whole = layout.whole(layout.mesh())
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), like
    )
    about = {"settings": settings(config), "start": {"sha256": digest}}
    warnings = []
    with Checkpoints(config.out, like, about, config.keep, warnings.append) as opened:
        found = opened.restore()
    assert not warnings
    return jax.device_get(names.flatten(found))


def assert_same(config, other):
    """Same state, same metrics, to the last bit; and what TensorBoard shows of them."""
    found, expected = state(config), state(other)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    path, other_path = (c.out / "metrics.jsonl" for c in (config, other))
    assert path.read_text() == other_path.read_text()
    shown, other_shown = (
        event_files.shown(c.out / "tensorboard") for c in (config, other)
    )
    assert shown == other_shown


def losses(config):
    """Of every line of the metrics, ``[lines]``."""
    lines = read(config.out / "metrics.jsonl")
    return np.array([line["loss"] for line in lines if "loss" in line])
