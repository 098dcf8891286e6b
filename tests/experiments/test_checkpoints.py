"""What a run survives: signals, kills, damaged files, other devices and processes."""

import contextlib
import dataclasses
import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import chex
import jax
import numpy as np
import pytest
import small_task

from experiments.errors import InputError
from experiments.training import devices, loop
from experiments.training import job as jobs
from experiments.training.checkpoints import Checkpoints
from experiments.training.interruption import Interrupted

# Sums over a batch are taken in another order.
CLOSE = {"rtol": 2e-5, "atol": 2e-6}


@pytest.fixture(scope="module", autouse=True)
def _pieces_of_two_steps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "PIECE_BYTES", small_task.PIECE_BYTES)
        yield


@pytest.fixture(scope="module")
def job():
    return small_task.job()


@pytest.fixture(scope="module")
def fitted(job):
    return loop.fit(job)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


def _fit(job, folder, advanced=lambda step: None, **settings):
    """Trains in the folder; gives the result, the first step and the warnings."""
    said, shares = [], []

    def both(share):
        shares.append(share)
        advanced(round(sum(shares) * 40))

    with Checkpoints(folder, settings, said.append) as checkpoints:
        fitted = loop.fit(job, both, checkpoints)
    began = round(shares[0] * 40)
    resumed = f"resuming at step {began} of 40"
    assert (resumed in said) == (0 < began < 40)
    return fitted, began, [text for text in said if text != resumed]


# Noted at the end of the next piece: in the middle of a chunk, and of the last chunk.
@pytest.mark.parametrize(("number", "at"), [(signal.SIGINT, 12), (signal.SIGTERM, 38)])
def test_a_signal_saves_and_the_run_resumes(job, fitted, folder, number, at):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=f"stopped at step {at + 2} of 40"):
        _fit(job, folder, lambda step: step == at and os.kill(os.getpid(), number))
    assert signal.getsignal(number) == before
    found, began, warnings = _fit(job, folder)
    assert (began, warnings) == (at + 2, [])
    chex.assert_trees_all_equal(found, fitted)
    assert signal.getsignal(number) == before


def test_stray_entries_are_ignored(job, fitted, folder):
    _fit(job, folder)
    shutil.rmtree(folder / "20")
    for name in (".DS_Store", "notes.txt", "21"):
        (folder / name).write_text("something")
    for name in ("lost+found", "latest", "012"):
        (folder / name).mkdir()
    found, began, warnings = _fit(job, folder)
    assert (began, warnings) == (36, [])
    chex.assert_trees_all_equal(found, fitted)
    assert {"notes.txt", "012"} < {path.name for path in folder.iterdir()}


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "arrays": lambda folder: [_cut(path) for path in folder.glob("tree/**/d/*")],
    "settings": lambda folder: _cut(folder / "about" / "metadata"),
    "all but the folder": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
}


# Orbax reads files at once: those that fail after the first have nobody to tell.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("damages", "first"),
    [({20: "all but the folder"}, 36), ({20: "arrays", 18: "settings"}, 0)],
)
def test_damaged_checkpoints_are_skipped_and_replaced(
    job, fitted, folder, damages, first
):
    _fit(job, folder)
    for step, damage in damages.items():
        DAMAGES[damage](folder / str(step))
    found, began, warnings = _fit(job, folder)
    assert began == first
    for step, warning in zip(damages, warnings, strict=True):
        assert warning.startswith(f"checkpoint {step} cannot be read and is skipped: ")
        assert "\n" not in warning
    chex.assert_trees_all_equal(found, fitted)
    assert _fit(job, folder)[1:] == (40, [])


def test_other_settings_are_refused_by_name(job, folder):
    _fit(job, folder, weight=0.1, size=(1, 2))
    for change, words in (
        ({"weight": 0.2}, r"checkpoint 20 in .* weight = 0\.1, this run has 0\.2: use"),
        ({"seed": 3}, "seed = none, this run has 3"),
    ):
        with pytest.raises(InputError, match=words):
            _fit(job, folder, **{"weight": 0.1, "size": (1, 2)} | change)
    assert _fit(job, folder, weight=0.1, size=(1, 2))[1] == 40


def test_a_folder_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "run").touch()
    why = os.strerror(errno.ENOTDIR)
    with pytest.raises(InputError, match=f"cannot write .*/run/plain: {why}"):
        Checkpoints(tmp_path / "run" / "plain", {})


def test_what_is_saved_is_not_what_memory_holds_later(folder):
    """The next chunk reuses the memory of the one that is being written."""
    advance = jax.jit(lambda x: x + 1, donate_argnums=0)
    x, saved = advance(np.zeros((512, 1024), np.float32)), {}
    with Checkpoints(folder, {}) as checkpoints:
        for step in range(1, 6):
            saved[step] = float(x[0, 0])
            checkpoints.save(step, {"x": x})
            for _ in range(20):
                x = advance(x)
        checkpoints._manager.wait_until_finished()
        found, step = checkpoints.restore({"x": x})
    np.testing.assert_array_equal(found["x"], saved[step])


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def begin(compiled, folder):
    """Starts the program `small_task`, on so many devices; none survives the test."""
    with contextlib.ExitStack() as ends:

        def call(devices=1, environment=(), **options):
            count = f"--xla_force_host_platform_device_count={devices}"
            options = {"folder": str(folder), "result": f"{folder}.npz", **options}
            process = subprocess.Popen(
                [sys.executable, small_task.__file__, json.dumps(options)],
                env={
                    **os.environ,
                    "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {count}",
                    "JAX_COMPILATION_CACHE_DIR": str(compiled),
                    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                    **dict(environment),
                },
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            ends.enter_context(process)
            ends.callback(process.kill)
            return process

        yield call


@pytest.fixture
def both(begin):
    """Starts the two processes of a run; ``last`` are options of the second alone."""

    def call(last=(), **options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        own = {}, dict(last)
        values = ((f"127.0.0.1:{port}", "2", str(index)) for index in range(2))
        names = "JAX_COORDINATOR_ADDRESS", *devices.NUMBERS
        return [
            begin(environment=zip(names, value, strict=True), join=True, **options, **x)
            for value, x in zip(values, own, strict=True)
        ]

    return call


def _ended(process, code=0):
    output, _ = process.communicate(timeout=240)
    assert process.returncode == code, output
    return output


def _result(folder, *processes):
    """The arrays, and the first step, that processes end with."""
    for process in processes:
        _ended(process)
    found = dict(np.load(f"{folder}.npz"))
    return found, int(found.pop("resumed"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What nothing interrupted, on one device."""
    folder = tmp_path_factory.mktemp("whole") / "checkpoints"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "SPLIT_FROM", devices.SPLIT_FROM)  # `main` changes it
        small_task.main(str(folder), f"{folder}.npz")
    return _result(folder)[0]


# Where the process is killed as it saves step 16, piece 8, and where the next begins.
KILLS = {
    "half written": ({"before": ("open", "/tree.orbax-checkpoint-tmp/_METADATA")}, 0),
    "written": ({"before": ("os.rename", "/8")}, 12),
    "removing an old one": ({"before": ("os.rmdir", "/4")}, 16),
    "in a chunk": ({"after": (18, "SIGKILL")}, 16),
}


@pytest.mark.parametrize(
    "where",
    [
        name if name == "written" else pytest.param(name, marks=pytest.mark.slow)
        for name in KILLS
    ],
)
def test_a_killed_run_ends_as_if_it_had_not_been(begin, whole, folder, where):
    options, expected = KILLS[where]
    _ended(begin(**options), -signal.SIGKILL)
    found, began = _result(folder, begin())
    assert began == expected
    chex.assert_trees_all_equal(found, whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("many", "layout"), [("devices", "fsdp"), ("processes", "data")]
)
def test_many_train_as_one_and_each_resumes_the_other(
    begin, both, whole, folder, many, layout
):
    def several():
        if many == "processes":
            return both(layout=layout)
        return [begin(devices=4, layout=layout)]

    for start, first in ((several, 0), (lambda: [begin()], 36), (several, 36)):
        found, began = _result(folder, *start())
        assert began == first
        assert found.keys() == whole.keys()
        for name, values in whole.items():
            np.testing.assert_allclose(found[name], values, **CLOSE, err_msg=name)
        shutil.rmtree(folder / "20")


@pytest.mark.slow
def test_two_processes_save_and_end_at_one_step_when_one_is_told_to(
    begin, both, folder
):
    told = both(steps=2000, last={"after": (20, "SIGTERM")})
    words = r"^stopped at step (\d+) of 2000$"
    first, second = (re.findall(words, _ended(x, 130), re.MULTILINE) for x in told)
    assert first == second
    stopped = int(first[0])
    assert (folder / str(stopped // 2)).is_dir()
    assert _result(folder, begin(steps=2000))[1] == stopped


def test_without_a_cluster_the_variables_are_asked_for(begin):
    output = _ended(begin(join=True), 1)
    words = "JAX_NUM_PROCESSES and JAX_PROCESS_ID must be set"
    assert words in output.splitlines()[-1]


def test_a_batch_that_devices_cannot_divide_is_refused(job):
    recipe = dataclasses.replace(small_task.RECIPE, batch_size=7)
    over = devices.layout()._replace(mesh=jax.sharding.AbstractMesh((4,), ("data",)))
    with pytest.raises(InputError, match=r"a batch of 7 images .* among 4 devices"):
        loop.fit(dataclasses.replace(job, recipe=recipe), over=over)
