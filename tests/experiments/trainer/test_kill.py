"""A run that is killed over and over ends as if it had not been, to the last bit."""

import os
import signal
import time

import comparing
import numpy as np
import pytest

from experiments.trainer.checkpoint import UNFINISHED


class Killer:
    """Kills the process of a run at a moment drawn at random; counts what it hit."""

    def __init__(self, config, begin, seed):
        self._config, self._begin = config, begin
        self._draws = np.random.default_rng(seed)
        self._start_up = 2.0
        self.while_writing = 0

    def while_it_writes(self):
        """Within 30 ms of the moment at which a checkpoint was begun."""
        before = self._unfinished()
        process = self._begin(self._config)
        while not self._unfinished() - before:
            assert process.is_alive(), "the run ended before it could be killed"
        self._kill(process, self._draws.uniform(0, 0.03))

    def as_it_trains(self):
        """Within 0.2 s of its first step."""
        path = self._config.out / "metrics.jsonl"
        before = path.stat().st_mtime_ns if path.exists() else 0
        process, began = self._begin(self._config), time.monotonic()
        while not path.exists() or path.stat().st_mtime_ns == before:
            assert process.is_alive(), "the run ended before it could be killed"
            time.sleep(0.001)
        self._start_up = time.monotonic() - began
        self._kill(process, self._draws.uniform(0, 0.2))

    def at_any_time(self):
        """From before it has begun until it trains."""
        self._kill(self._begin(self._config), self._draws.uniform(0, self._start_up))

    def _kill(self, process, seconds):
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL, "the run had ended"
        self.while_writing += bool(self._unfinished())

    def _unfinished(self):
        """The folders of checkpoints that are being, or were half, written."""
        found = (self._config.out / "checkpoints").glob(f"*{UNFINISHED}*")
        return {(path.name, path.stat().st_ino) for path in found}


def _killed(config, begin, kinds):
    """Runs to the end with kills of these kinds on the way; gives the killer."""
    killer = Killer(config, begin, seed=0)
    for kind in kinds:
        getattr(killer, kind)()
    _ended(begin(config))
    return killer


def _ended(process):
    process.join()
    assert process.exitcode == 0


def test_killed_twice(whole, config, begin):
    killed = config()
    _killed(killed, begin, ("while_it_writes", "as_it_trains"))
    comparing.assert_same(killed, whole)


@pytest.mark.slow
def test_killed_24_times(config, begin):
    whole, killed = (config(steps=2000, save_every=10) for _ in range(2))
    _ended(begin(whole))
    kinds = ("while_it_writes", "as_it_trains", "at_any_time")
    killer = _killed(killed, begin, 8 * kinds)
    comparing.assert_same(killed, whole)
    assert killer.while_writing >= 8
