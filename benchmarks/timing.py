"""Compiles programs, and times them side by side."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache


class Quartiles(TypedDict):
    """Median, and the quartiles below and above it."""

    median: float
    low: float
    high: float


class Function(NamedTuple):
    """What to compile.

    Attributes:
      call: returns a tuple if anything is donated.
      args: its arguments; arrays or shapes, or pytrees of them.
      donated: how many of them are donated. As many results take their place in the
        next call, as parameters and optimizer state do in training.
    """

    call: Callable[..., Any]
    args: tuple[Any, ...]
    donated: int = 0


def repeated(function: Function, times: int) -> Function:
    """``function`` so many times over in one program, each on the last one's results.

    What a call takes before it reaches the device, some microseconds for each array,
    is then paid once, as in a training step.
    """
    if times == 1:
        return function
    call, args, donated = function

    def loop(*args: Any) -> Any:
        fixed = args[donated:]

        def body(_: Any, carried: Any) -> Any:
            # Or XLA would move work on what stays the same out of the loop.
            carried, inputs = jax.lax.optimization_barrier((carried, fixed))
            return tuple(call(*carried, *inputs)[:donated])

        return jax.lax.fori_loop(0, times, body, args[:donated])

    return Function(loop, args, donated)


class Program:
    """A compiled function with its arguments: call it to run it once.

    A pure function takes space for its result as a donated argument it does not use:
    ``lambda out, g, r: (g + r,)``. Without that, a call pays for fresh memory, which on
    a CPU costs several times what the arithmetic does.

    Attributes:
      compile_s: seconds of tracing, lowering and XLA's compilation.
      executable: what XLA made.
    """

    def __init__(self, function: Function):
        call, args, donated = function
        jitted = jax.jit(call, donate_argnums=range(donated), keep_unused=True)
        jax.clear_caches()  # or what an earlier program left would shorten the times
        with _no_persistent_cache():
            began = time.perf_counter()
            self.executable = jitted.lower(*args).compile()
            self.compile_s = time.perf_counter() - began
        abstract = isinstance(jax.tree.leaves(args)[0], jax.ShapeDtypeStruct)
        self._carried = None if abstract else jax.tree.map(jnp.copy, args[:donated])
        self._fixed = args[donated:]

    def __call__(self) -> Any:
        """Runs once; does not wait for the result. Not for shapes."""
        carried = self._carried or ()
        result = self.executable(*carried, *self._fixed)
        self._carried = result[: len(carried)] if carried else ()
        return result

    @property
    def temporary_mb(self) -> float | None:
        """Memory besides arguments and results, in MB; None where XLA does not say."""
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
    programs: Mapping[str, Callable[[], Any]], *, seconds: float, least: int = 7
) -> dict[str, np.ndarray]:
    """Seconds of each call, ``[repetitions]`` for each program.

    Each repetition runs every program once, in a new random order. Each is run twice
    before its time counts.

    Args:
      programs: what to run, by name; a :class:`Program` or any other function.
      seconds: repetitions go on until this much time has passed,
      least: and until there are this many of them; 0 seconds are a trial of three.
    """
    least = least if seconds else 3
    order = np.random.default_rng(0)
    names = list(programs)
    for program in [*programs.values()] * 2:
        jax.block_until_ready(program())
    times: dict[str, list[float]] = {name: [] for name in names}
    ends = time.perf_counter() + seconds
    while len(times[names[0]]) < least or time.perf_counter() < ends:
        for name in order.permutation(names):
            began = time.perf_counter()
            jax.block_until_ready(programs[name]())
            times[name].append(time.perf_counter() - began)
    return {name: np.array(x) for name, x in times.items()}


def quartiles(values: np.ndarray) -> Quartiles:
    low, median, high = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    return Quartiles(median=median, low=low, high=high)


def ratio(ours: np.ndarray, reference: np.ndarray) -> Quartiles:
    """Of the ratios within each repetition, both ``[repetitions]``."""
    return quartiles(ours / reference)
