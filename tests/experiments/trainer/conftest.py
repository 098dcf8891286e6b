"""A tiny run, and processes that need not import everything each time."""

import dataclasses
import itertools
import multiprocessing
import shutil

import jax
import pytest
import worker
from jax.experimental.compilation_cache import compilation_cache

from experiments.trainer import start
from experiments.trainer.config import Train

# Its server imports once, and forks before JAX starts anything: a process begins in a
# fraction of the 6 seconds that the imports take.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["experiments.trainer.command"])


@pytest.fixture(scope="package")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("trainer")


@pytest.fixture(scope="package")
def made(folder):
    """A configuration whose start is made: small batches of digits."""
    config = Train(
        out=folder / "made", cache=folder / "cache", data="digits", source="digits",
        epochs=1, per_class=10, batch_size=8, learning_rate=0.03, steps=60,
        save_every=20, log_every=1, heartbeat=20, quiet=True,
    )  # fmt: skip
    with jax.numpy_dtype_promotion("standard"):
        start.make(config)
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


@pytest.fixture
def begin():
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
