"""Times compiled functions side by side."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache


class Quartiles(TypedDict):
    """Median, and the quartiles below and above it."""

    median: float
    low: float
    high: float


class Program:
    """A compiled function with its arguments: call it to run it once.

    The first ``donated`` arguments are donated, and the first ``donated`` results take
    their place in the next call, as parameters and optimizer state do in training. A
    pure function takes space for its result this way, as an argument it does not use:
    ``lambda out, g, r: (g + r,)`` with ``donated=1``. Without that, a call pays for
    fresh memory, which on a CPU costs several times what the arithmetic does.

    Args:
      function: what to compile; returns a tuple if anything is donated.
      *args: its arguments; arrays, or pytrees of them. Those to be donated are copied.
      donated: how many of them are donated.

    Attributes:
      trace_seconds: time for tracing and lowering.
      compile_seconds: time for XLA's compilation.
    """

    def __init__(self, function: Callable[..., Any], *args: Any, donated: int = 0):
        jitted = jax.jit(function, donate_argnums=range(donated), keep_unused=True)
        jax.clear_caches()  # or what an earlier program left would shorten the times
        began = time.perf_counter()
        lowered = jitted.lower(*args)
        self.trace_seconds = time.perf_counter() - began
        began = time.perf_counter()
        with _no_persistent_cache():
            self.executable = lowered.compile()
        self.compile_seconds = time.perf_counter() - began
        self._carried = jax.tree.map(jnp.copy, args[:donated])
        self._fixed = args[donated:]

    def __call__(self) -> Any:
        """Runs once; does not wait for the result."""
        result = self.executable(*self._carried, *self._fixed)
        if self._carried:
            self._carried = result[: len(self._carried)]
        return result

    @property
    def temporary_mb(self) -> float | None:
        """Memory beside arguments and results, in MB; None where XLA does not say."""
        memory = self.executable.memory_analysis()
        return None if memory is None else memory.temp_size_in_bytes / 1e6


@contextlib.contextmanager
def _no_persistent_cache() -> Iterator[None]:
    """Turns off the cache on disk, which a user's environment may have turned on."""
    enabled = jax.config.values["jax_enable_compilation_cache"]
    _enable_cache(False)
    try:
        yield
    finally:
        _enable_cache(enabled)


def _enable_cache(enabled: bool) -> None:
    jax.config.update("jax_enable_compilation_cache", enabled)
    compilation_cache.reset_cache()  # JAX reads the setting once


def interleaved(
    programs: Mapping[str, Callable[[], Any]], *, seconds: float, least: int
) -> dict[str, np.ndarray]:
    """Seconds of each call, ``[repetitions]`` for each program.

    Each repetition runs every program once, in a new random order: a slow moment of
    the machine falls on all of them alike, and none always follows the same other.
    Each is run twice before its time counts.

    Args:
      programs: what to run, by name; a :class:`Program` or any other function.
      seconds: repetitions go on until this much time has passed,
      least: and until there are this many of them.
    """
    order = np.random.default_rng(0)
    names = list(programs)
    for program in [*programs.values()] * 2:
        jax.block_until_ready(program())
    times: dict[str, list[float]] = {name: [] for name in names}
    ends = time.perf_counter() + seconds
    repetition = 0
    while repetition < least or time.perf_counter() < ends:
        for name in order.permutation(names):
            began = time.perf_counter()
            jax.block_until_ready(programs[name]())
            times[name].append(time.perf_counter() - began)
        repetition += 1
    return {name: np.array(seconds) for name, seconds in times.items()}


def quartiles(values: np.ndarray) -> Quartiles:
    low, median, high = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    return Quartiles(median=median, low=low, high=high)


def ratio(ours: np.ndarray, reference: np.ndarray) -> Quartiles:
    """Of the ratios within each repetition, both ``[repetitions]``."""
    return quartiles(ours / reference)


def device_peak_mb() -> float | None:
    """Most memory in use on the device so far, in MB; None where it does not say."""
    stats = jax.devices()[0].memory_stats()
    peak = (stats or {}).get("peak_bytes_in_use")
    return None if peak is None else peak / 1e6
