"""Ctrl-C and SIGTERM: saves and ends a run, in all processes at the same step."""

import signal
from typing import Any

import jax
from jax.experimental import multihost_utils


class Interrupted(Exception):
    """A run was interrupted. The message says at which step."""


class Interruption:
    """Records the first signal; a second one ends the process as usual.

    With several processes, JAX's coordination service handles SIGTERM and agrees on the
    step, about a second later. A context manager, for the main thread.
    """

    SIGNALS = signal.SIGINT, signal.SIGTERM

    def __init__(self):
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        if jax.process_count() == 1:
            self._before = {s: signal.signal(s, self._note) for s in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, *_: object) -> None:
        self._asked = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def reached(self, number: int) -> bool:
        """Whether to end now, after ``number`` pieces. Must be called after each piece.

        JAX chooses a number that no process has reached yet, and misses it if a call is
        skipped. Orbax asks with the numbers of checkpoints, so these must be the same.
        """
        if jax.process_count() == 1:
            return self._asked
        return multihost_utils.reached_preemption_sync_point(number)
