"""Several processes: the same losses as one, and none outlives the others for long."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import comparing
import event_files
import numpy as np
import pytest

from experiments.trainer import launch
from experiments.trainer.config import FREE

# Sums over a batch are taken in another order: differences of float32's last digits,
# which grow from step to step.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
FIRST_LINE_WITHIN = 120


def _places(config, processes, **changes):
    """The configuration of each process."""
    address = f"127.0.0.1:{launch._free_port()}"
    return [
        dataclasses.replace(
            config, coordinator=address, processes=processes, process_id=index,
            **changes,
        )
        for index in range(processes)
    ]  # fmt: skip


def _run(begin, configs):
    running = [begin(config) for config in configs]
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * len(running)


def _wait_for_a_line(config, since=0):
    path, end = config.out / "metrics.jsonl", time.monotonic() + FIRST_LINE_WITHIN
    while not path.exists() or path.stat().st_size <= since:
        assert time.monotonic() < end, "no step was done"
        time.sleep(0.01)


def _go_back(config, step):
    """As if the run had been killed just after its checkpoint at ``step``."""
    for path in (config.out / "checkpoints").iterdir():
        if int(path.name) > step:
            shutil.rmtree(path)


def test_two_processes_train_as_one_and_one_goes_on_where_they_were(
    config, begin, whole
):
    one, two = whole, config(layout="fsdp")
    _run(begin, _places(two, 2))
    curve = comparing.losses(one)
    assert len(curve) == one.steps
    np.testing.assert_allclose(comparing.losses(two), curve, **CLOSE)
    _go_back(two, 40)
    _run(begin, [two])
    # Of each run one process writes them.
    assert len(list((two.out / "tensorboard").iterdir())) == 2
    shown, expected = (event_files.shown(c.out / "tensorboard") for c in (two, one))
    assert shown.keys() == expected.keys()
    assert all(len(shown[tag]) == len(expected[tag]) for tag in expected)
    np.testing.assert_allclose(comparing.losses(two), curve, **CLOSE)
    found, expected = comparing.state(two), comparing.state(one)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], **CLOSE, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["data", "fsdp"])
def test_four_processes_go_on_where_one_was(config, begin, layout):
    one, four = config(), config(layout=layout)
    _run(begin, [one])
    _run(begin, [four])
    _go_back(four, 20)
    _run(begin, _places(four, 4))
    np.testing.assert_allclose(comparing.losses(four), comparing.losses(one), **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "how"),
    [(0, signal.SIGKILL), (1, signal.SIGKILL), (1, signal.SIGSTOP)],
)
def test_without_a_launcher_the_others_end_within_the_heartbeat(
    config, begin, victim, how
):
    configs = _places(config(steps=10**6, heartbeat=10), 2)
    running = [begin(config) for config in configs]
    _wait_for_a_line(configs[0])
    os.kill(running[victim].pid, how)
    other = running[1 - victim]
    # Twice: until it is found silent, and again until the other has given up waiting.
    other.join(2 * 10 + 10)
    assert other.exitcode not in (None, 0)


def _command(config):
    """The command line of a configuration."""
    fields = dataclasses.asdict(config)
    names = [name for name in fields if name not in (*FREE, "crop")]
    names += ["out", "cache", "layout", "save_every", "log_every", "processes"]
    options = [(f"--{name.replace('_', '-')}", str(fields[name])) for name in names]
    return [
        *(sys.executable, "-m", "experiments", "train", "--tensorboard"),
        *(part for option in options for part in option),
    ]


def _children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _workers(launcher):
    """Process ids of those that train, which the command's fork server has started."""
    (server,) = (
        pid
        for pid in _children(launcher.pid)
        if "forkserver" in Path(f"/proc/{pid}/cmdline").read_text()
    )
    return [int(pid) for pid in _children(server)]


@pytest.mark.slow
def test_the_command_ends_when_one_of_its_processes_is_killed_and_goes_on(config):
    whole, killed = (config(processes=2, steps=150, layout="fsdp") for _ in range(2))
    subprocess.run(_command(whole), check=True, timeout=300)
    launcher = subprocess.Popen(_command(killed), stderr=subprocess.PIPE, text=True)
    _wait_for_a_line(killed)
    os.kill(_workers(launcher)[-1], signal.SIGKILL)
    _, errors = launcher.communicate(timeout=20)
    assert launcher.returncode == 1
    assert "error: process 1 of 2 ended by SIGKILL, and the others" in errors
    subprocess.run(_command(killed), check=True, timeout=300)
    comparing.assert_same(killed, whole)


@pytest.mark.slow
def test_the_command_saves_and_ends_on_sigterm_and_none_is_left_on_sigkill(config):
    config = config(processes=2, steps=10**6, log_every=10, save_every=10**5)
    launcher = subprocess.Popen(_command(config), stdout=subprocess.PIPE, text=True)
    _wait_for_a_line(config)
    launcher.send_signal(signal.SIGTERM)
    output, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 0
    (saved,) = (config.out / "checkpoints").iterdir()
    assert f"stopped at step {saved.name} of 1000000 and saved" in output

    size = (config.out / "metrics.jsonl").stat().st_size
    launcher = subprocess.Popen(_command(config), stdout=subprocess.DEVNULL)
    _wait_for_a_line(config, since=size)
    workers = _workers(launcher)
    launcher.kill()
    launcher.wait()
    end = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < end, "a worker outlived the launcher"
        time.sleep(0.05)
