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
    """The median, and the lower and upper quartile."""

    median: float
    low: float
    high: float


class Function(NamedTuple):
    """A function to compile.

    Attributes:
      call: the function; returns a tuple if anything is donated.
      args: its arguments: arrays or shapes, or pytrees of them.
      donated: number of leading arguments that are donated. The leading results replace
        them in the next call, as parameters and optimizer state in training.
    """

    call: Callable[..., Any]
    args: tuple[Any, ...]
    donated: int = 0


def repeated(function: Function, times: int) -> Function:
    """Repeats ``function`` in one program, each time on its last results.

    The dispatch cost of a call, some microseconds per array, is then paid once, as in a
    training step.
    """
    if times == 1:
        return function
    call, args, donated = function

    def loop(*args: Any) -> Any:
        fixed = args[donated:]

        def body(_: Any, carried: Any) -> Any:
            # Without the barrier, XLA would move work on fixed inputs out of the loop.
            carried, inputs = jax.lax.optimization_barrier((carried, fixed))
            return tuple(call(*carried, *inputs)[:donated])

        return jax.lax.fori_loop(0, times, body, args[:donated])

    return Function(loop, args, donated)


class Program:
    """A compiled function with its arguments. Call it to run it once.

    A pure function gets memory for its result as an unused donated argument: ``lambda
    out, g, r: (g + r,)``. Without that, a call allocates new memory, which on a CPU
    costs several times as much as the arithmetic.

    Attributes:
      compile_s: seconds of tracing, lowering and compilation by XLA.
      executable: the compiled program.
    """

    def __init__(self, function: Function):
        call, args, donated = function
        jitted = jax.jit(call, donate_argnums=range(donated), keep_unused=True)
        jax.clear_caches()  # earlier programs must not shorten the compilation
        with _no_persistent_cache():
            began = time.perf_counter()
            self.executable = jitted.lower(*args).compile()
            self.compile_s = time.perf_counter() - began
        abstract = isinstance(jax.tree.leaves(args)[0], jax.ShapeDtypeStruct)
        self._carried = None if abstract else jax.tree.map(jnp.copy, args[:donated])
        self._fixed = args[donated:]

    def __call__(self) -> Any:
        """Runs once, without waiting for the result. Not for shapes."""
        carried = self._carried or ()
        result = self.executable(*carried, *self._fixed)
        self._carried = result[: len(carried)] if carried else ()
        return result

    @property
    def temporary_mb(self) -> float | None:
        """Memory besides arguments and results, in MB; None if not reported by XLA."""
        memory = self.executable.memory_analysis()
        return None if memory is None else memory.temp_size_in_bytes / 1e6


@contextlib.contextmanager
def _no_persistent_cache() -> Iterator[None]:
    """Turns off the cache on disk, which the environment may have turned on."""
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

    Each repetition runs every program once, in a new random order. Each program first
    runs twice untimed.

    Args:
      programs: the programs by name: a :class:`Program` or any other function.
      seconds: minimum total time of the repetitions; 0 for a trial of three.
      least: minimum number of repetitions, unless ``seconds`` is 0.
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
    """The quartiles of the ratios within each repetition, both ``[repetitions]``."""
    return quartiles(ours / reference)
