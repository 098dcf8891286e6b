"""Programs run side by side, with their buffers handed on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from benchmarks import timing
from benchmarks.timing import Function, Program, interleaved, ratio, repeated


def test_donated_arguments_are_carried_on_in_the_same_memory():
    start = jnp.zeros(1000)
    args = start, jnp.ones(1000)
    program = Program(Function(lambda x, step: (x + step,), args, donated=1))
    first = program()[0].unsafe_buffer_pointer()
    (new,) = program()
    np.testing.assert_array_equal(new, np.full(1000, 2))
    assert new.unsafe_buffer_pointer() == first
    np.testing.assert_array_equal(start, np.zeros(1000))  # the caller's is left alone


def test_a_repeated_program_goes_on_from_its_results():
    args = jnp.zeros(3), jnp.ones(3), jnp.ones(3)
    once = Function(lambda x, old, step: (x + step, x, None), args, donated=2)
    program = Program(repeated(once, 5))
    for total in (5, 10):
        new, old = program()
        np.testing.assert_array_equal(new, [total] * 3)
        np.testing.assert_array_equal(old, [total - 1] * 3)


def test_programs_are_compiled_anew_and_without_the_cache_on_disk(tmp_path):
    options = {
        "jax_compilation_cache_dir": str(tmp_path),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: jax.config.values[name] for name in options}
    x, traced = jnp.ones(3), []

    def function(x):
        traced.append(x)
        return x + 1

    try:
        for name, value in options.items():
            jax.config.update(name, value)
        for count in (1, 2):
            Program(Function(function, (x,)))
            assert len(traced) == count
        assert not list(tmp_path.iterdir())
        jax.jit(lambda x: x + 2)(x)
        assert list(tmp_path.iterdir())
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


class Clock:
    """Time passes only where a result is waited for: one second."""

    now = 0.0

    def perf_counter(self):
        return self.now

    def block_until_ready(self):
        self.now += 1


def test_a_call_counts_until_its_result_is_there(monkeypatch):
    """Not until it is dispatched; and repetitions go on until the time is up."""
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    programs = {"late": lambda: clock, "at once": int}
    for seconds, least, repetitions in ((0, 7, 3), (2, 5, 5), (10, 5, 10)):
        times = interleaved(programs, seconds=seconds, least=least)
        np.testing.assert_array_equal(times["late"], np.ones(repetitions))
        np.testing.assert_array_equal(times["at once"], np.zeros(repetitions))


def test_ratio_is_taken_within_repetitions():
    """The machine slows down threefold: the ratio stays."""
    reference = np.array([1.0, 1.0, 3.0, 3.0])
    assert ratio(2 * reference, reference) == {"median": 2, "low": 2, "high": 2}
    assert timing.quartiles(np.arange(5.0)) == {"median": 2, "low": 1, "high": 3}


def test_temporary_memory_is_known():
    program = Program(Function(lambda x: x @ x @ x, (jnp.ones((256, 256)),)))
    assert program.temporary_mb == pytest.approx(256 * 256 * 4e-6, rel=0.1)
