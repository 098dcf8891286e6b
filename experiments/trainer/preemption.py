"""SIGTERM: the machine is wanted for something else, and the run is to save and end."""

import signal

import jax
from jax.experimental import multihost_utils


class Preemption:
    """Tells all processes, at the same step, that one of them was sent SIGTERM.

    With several processes JAX's coordination service listens to the signal and agrees
    on the step, about a second later. A context manager, for the main thread.
    """

    def __init__(self):
        self._asked = False
        self._before = signal.SIG_DFL

    def __enter__(self) -> "Preemption":
        if jax.process_count() == 1:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if jax.process_count() == 1:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, *_: object) -> None:
        self._asked = True

    def reached(self, step: int) -> bool:
        """Whether ``step`` is the one to end with; to be asked at every step."""
        if jax.process_count() == 1:
            return self._asked
        return multihost_utils.reached_preemption_sync_point(step)
