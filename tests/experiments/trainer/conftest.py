"""A tiny run, and processes that need not import everything each time."""

import dataclasses
import itertools
import multiprocessing
import shutil
from multiprocessing import forkserver

import jax
import pytest
import worker
from jax.experimental.compilation_cache import compilation_cache
from rich.console import Console
from safetensors.numpy import save_file

from experiments.networks import Architecture
from experiments.progress import Reporter
from experiments.trainer import loop, names, start
from experiments.trainer.config import Train

# Its server imports once, and forks before JAX starts anything: a process begins in a
# fraction of the 6 seconds that the imports take.
CONTEXT = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="package")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("trainer")


@pytest.fixture(scope="package")
def made(folder):
    """A configuration with a start: small batches of digits.

    The start is not pretrained, which takes longest of all: that is `test_start`'s.
    With 30 images a class, all parts of the held-out images are of one size.
    """
    config = Train(
        out=folder / "made", cache=folder / "cache", data="digits", source="digits",
        epochs=1, per_class=30, batch_size=8, learning_rate=0.03, steps=60,
        save_every=20, log_every=1, heartbeat=20, quiet=True, tensorboard=True,
        image_every=25,
    )  # fmt: skip
    with jax.numpy_dtype_promotion("standard"):  # as in the run, which compiles it too
        params = Architecture().init(jax.random.key(0))
    leaves = jax.device_get(names.flatten({"params": params}))
    config.out.mkdir()
    save_file(leaves, config.out / start.FILE)
    return config


@pytest.fixture(scope="package", autouse=True)
def _compiled_once(folder):
    """The same small programs are compiled over and over otherwise."""
    changes = {
        "jax_compilation_cache_dir": str(folder / "cache" / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in changes}
    for name, value in changes.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def _run(config):
    return loop.run(config, Reporter(Console(), quiet=True))


@pytest.fixture(scope="package")
def run():
    """Trains in this process, without a word."""
    return _run


@pytest.fixture(scope="package")
def whole(made):
    """The tiny run, which nothing interrupted."""
    with jax.numpy_dtype_promotion("standard"):
        _run(made)
    return made


@pytest.fixture
def config(made, tmp_path):
    """Gives the tiny run with changes, in a new folder unless one is given."""
    count = itertools.count()

    def change(**changes):
        changes = {"out": tmp_path / f"run-{next(count)}", **changes}
        changes["out"].mkdir(exist_ok=True)
        if changes["out"] != made.out:
            shutil.copy(made.out / start.FILE, changes["out"])
        return dataclasses.replace(made, **changes)

    return change


@pytest.fixture(scope="session")
def fork_server():
    """Begun before the launcher does it, which would let it import less."""
    CONTEXT.set_forkserver_preload(["experiments.trainer.command"])
    forkserver.ensure_running()


@pytest.fixture
def begin(fork_server):
    """Starts the command ``train`` in a process of its own; none survives the test."""
    running = []

    def call(config):
        process = CONTEXT.Process(target=worker.end_with, args=(config,))
        process.start()
        running.append(process)
        return process

    yield call
    for process in running:
        process.kill()
        process.join()
