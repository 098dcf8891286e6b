"""What a run survives: signals, kills, damaged files, other devices and processes."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
import small_task

from experiments.errors import InputError
from experiments.training import devices, loop
from experiments.training.checkpoints import KEEP, Checkpoints
from experiments.training.interruption import Interrupted

# Sums over a batch are taken in another order.
CLOSE = {"rtol": 2e-5, "atol": 2e-6}


def _same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.fixture(scope="module")
def job():
    return small_task.job()


@pytest.fixture(scope="module")
def fitted(job):
    with jax.numpy_dtype_promotion("standard"):
        return loop.fit(job)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


def _fit(job, folder, settings=None, advanced=None):
    """Trains in the folder; gives the result, the first step and the warnings."""
    warnings, shares = [], []

    def both(share):
        shares.append(share)
        if advanced is not None:
            advanced(round(sum(shares) * 40))

    with Checkpoints(folder, settings or {}, warnings.append) as checkpoints:
        fitted = loop.fit(job, both, checkpoints)
    return fitted, round(shares[0] * 40), warnings


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_run_resumes(job, fitted, folder, number, monkeypatch):
    monkeypatch.setattr(loop, "PIECE_BYTES", small_task.PIECE_BYTES)
    before = signal.getsignal(number)

    def advanced(step):
        if step == 12:  # noted after piece 14, in the middle of a chunk
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted, match="stopped at step 14 of 40"):
        _fit(job, folder, advanced=advanced)
    assert signal.getsignal(number) == before
    found, began, warnings = _fit(job, folder)
    assert (began, warnings) == (14, [])
    whole = loop.fit(job)
    _same(found, whole)
    assert found.step == fitted.step


def test_a_second_signal_ends_the_run_at_once(job):
    times = []

    def twice(share):
        times.append(share)
        if len(times) > 1:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        loop.fit(job, twice)


def test_a_signal_in_the_last_chunk_is_not_lost(job):
    shares = []

    def advanced(share):
        shares.append(share)
        if len(shares) == 10:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="stopped at step 40 of 40"):
        loop.fit(job, advanced)


def test_a_finished_run_is_read_back(job, fitted, folder):
    _fit(job, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["36", "40"]
    found, began, _ = _fit(job, folder)
    assert began == 40
    _same(found, fitted)


def test_stray_entries_are_ignored(job, fitted, folder):
    _fit(job, folder)
    shutil.rmtree(folder / "40")
    for name in (".DS_Store", "notes.txt", "38"):
        (folder / name).write_text("something")
    for name in ("lost+found", "latest", "012"):
        (folder / name).mkdir()
    found, began, warnings = _fit(job, folder)
    assert (began, warnings) == (36, [])
    _same(found, fitted)
    assert (folder / "notes.txt").exists()
    assert (folder / "012").exists()


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "arrays": lambda folder: [_cut(path) for path in folder.glob("tree/**/d/*")],
    "settings": lambda folder: _cut(folder / "about" / "metadata"),
    "no settings": lambda folder: shutil.rmtree(folder / "about"),
    "no arrays": lambda folder: shutil.rmtree(folder / "tree"),
    "nothing in it": lambda folder: [
        shutil.rmtree(folder),
        folder.mkdir(),
    ],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_skipped_and_replaced(job, fitted, folder, damage):
    _fit(job, folder)
    DAMAGES[damage](folder / "40")
    found, began, (warning,) = _fit(job, folder)
    assert began == 36
    assert warning.startswith("checkpoint 40 cannot be read and is skipped: ")
    assert "\n" not in warning
    _same(found, fitted)
    _, began, warnings = _fit(job, folder)
    assert (began, warnings) == (40, [])


def test_where_all_are_damaged_the_run_begins_anew(job, fitted, folder):
    _fit(job, folder)
    for path in folder.iterdir():
        DAMAGES["arrays"](path)
    found, began, warnings = _fit(job, folder)
    assert (began, len(warnings)) == (0, KEEP)
    _same(found, fitted)


def test_other_settings_are_refused_by_name(job, folder):
    _fit(job, folder, {"weight": 0.1, "crop": None, "size": (1, 2)})
    with pytest.raises(InputError, match=r"weight = 0\.1, here it is 0\.2: use the op"):
        _fit(job, folder, {"weight": 0.2, "crop": None, "size": (1, 2)})
    with pytest.raises(InputError, match="seed = none, here it is 3"):
        _fit(job, folder, {"weight": 0.1, "crop": None, "size": (1, 2), "seed": 3})
    _, began, _ = _fit(job, folder, {"weight": 0.1, "crop": None, "size": (1, 2)})
    assert began == 40


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
    assert step == 5
    np.testing.assert_array_equal(found["x"], saved[5])


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def begin(compiled, folder):
    """Starts `small_task` as a program."""
    running = []

    def call(name, devices=1, environment=None, **options):
        flags = f"{os.environ['XLA_FLAGS']} "
        flags += f"--xla_force_host_platform_device_count={devices}"
        options = {"folder": str(folder), "result": str(folder / name), **options}
        running.append(
            subprocess.Popen(
                [sys.executable, small_task.__file__, json.dumps(options)],
                env={
                    **os.environ,
                    "XLA_FLAGS": flags,
                    "JAX_COMPILATION_CACHE_DIR": str(compiled),
                    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                    **(environment or {}),
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return running[-1]

    yield call
    for process in running:
        process.kill()
        process.wait()


def _ended(process, code=0):
    output, _ = process.communicate(timeout=120)
    assert process.returncode == code, output
    return output


@pytest.fixture
def run(begin, folder):
    """Runs it to the end; gives the arrays of the result and the first step."""

    def call(**options):
        _ended(begin("found.npz", **options))
        return _result(folder / "found.npz")

    return call


def _result(path):
    found = dict(np.load(path))
    return found, int(found.pop("resumed"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What nothing interrupted."""
    path = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        for module, name in ((loop, "PIECE_BYTES"), (devices, "SPLIT_FROM")):
            patch.setattr(module, name, getattr(module, name))  # `main` changes them
        small_task.main(str(path / "checkpoints"), str(path / "whole.npz"))
    return _result(path / "whole.npz")[0]


# Where the process is killed as it saves step 16, and where the next one begins.
KILLS = {
    "begun": ({"before": ("os.mkdir", "/16.orbax-checkpoint-tmp")}, {12}),
    "half written": ({"before": ("open", "-tmp/_METADATA")}, {0}),
    "written": ({"before": ("os.rename", "/16")}, {12}),
    "removing an old one": ({"before": ("os.rmdir", "/8")}, {16}),
    "just begun to save": ({"after": (16, "now")}, {12, 16}),
    "in a chunk": ({"after": (18, "SIGKILL")}, {16}),
}


@pytest.mark.parametrize(
    "where",
    [
        name if name == "written" else pytest.param(name, marks=pytest.mark.slow)
        for name in KILLS
    ],
)
def test_a_killed_run_ends_as_if_it_had_not_been(begin, run, whole, where):
    options, expected = KILLS[where]
    _ended(begin("killed.npz", **options), -signal.SIGKILL)
    found, began = run()
    assert began in expected
    _same(found, whole)


def _near(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, **CLOSE, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["data", "fsdp"])
def test_four_devices_train_as_one_and_resume_where_one_was(
    begin, run, whole, folder, layout
):
    found, _ = run(devices=4, layout=layout)
    _near(found, whole)
    shutil.rmtree(folder / "40")
    found, began = run(devices=1)
    assert began == 36
    _near(found, whole)
    shutil.rmtree(folder / "40")
    found, began = run(devices=2, layout=layout)
    assert began == 36
    _near(found, whole)


@pytest.fixture
def both(begin):
    """Starts the two processes of a run; ``last`` are options of the second alone."""

    def call(name, last=(), **options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        own = {}, dict(last)
        return [
            begin(
                name,
                join=True,
                environment={
                    "JAX_COORDINATOR_ADDRESS": address,
                    "JAX_NUM_PROCESSES": "2",
                    "JAX_PROCESS_ID": str(index),
                },
                **options,
                **own[index],
            )
            for index in range(2)
        ]

    return call


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["data", "fsdp"])
def test_two_processes_train_as_one_and_each_resumes_the_other(
    both, run, whole, folder, layout
):
    for process in both("two.npz", layout=layout):
        _ended(process)
    found, began = _result(folder / "two.npz")
    assert began == 0
    _near(found, whole)
    shutil.rmtree(folder / "40")
    found, began = run()
    assert began == 36
    _near(found, whole)
    shutil.rmtree(folder / "40")
    for process in both("two.npz", layout=layout):
        _ended(process)
    found, began = _result(folder / "two.npz")
    assert began == 36
    _near(found, whole)


@pytest.mark.slow
def test_two_processes_save_and_end_at_one_step_when_one_is_told_to(both, folder):
    told = both("two.npz", steps=2000, last={"after": (20, "SIGTERM")})
    words = [_ended(process, 130).splitlines()[-1] for process in told]
    assert words[0] == words[1]
    stopped = int(words[0].removeprefix("stopped at step ").removesuffix(" of 2000"))
    assert (folder / str(stopped)).is_dir()
    for process in both("two.npz", steps=2000):
        _ended(process)
    assert _result(folder / "two.npz")[1] == stopped


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "JAX_NUM_PROCESSES and JAX_PROCESS_ID must be set"),
        ({"JAX_PROCESS_ID": "first"}, "cannot join the other processes: invalid"),
    ],
)
def test_without_a_cluster_the_variables_are_asked_for(begin, environment, words):
    output = _ended(begin("none.npz", join=True, environment=environment), 1)
    assert words in output.splitlines()[-1]


def test_a_batch_that_devices_cannot_divide_is_refused(job):
    recipe = dataclasses.replace(small_task.RECIPE, batch_size=7)
    over = devices.layout()._replace(mesh=jax.sharding.AbstractMesh((4,), ("data",)))
    with pytest.raises(InputError, match=r"a batch of 7 images .* among 4 devices"):
        loop.fit(dataclasses.replace(job, recipe=recipe), over=over)
