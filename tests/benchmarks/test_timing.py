"""Programs run side by side, with their buffers handed on."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from benchmarks.timing import (
    Function,
    Program,
    interleaved,
    quartiles,
    ratio,
    repeated,
)


def test_donated_arguments_are_carried_on():
    start = jnp.zeros(3)
    program = Program(
        Function(lambda x, step: (x + step, x), (start, jnp.ones(3)), donated=1)
    )
    program()
    new, old = program()
    np.testing.assert_array_equal(new, [2, 2, 2])
    np.testing.assert_array_equal(old, [1, 1, 1])
    np.testing.assert_array_equal(start, [0, 0, 0])  # the caller's is left alone


def test_donated_memory_is_used_again():
    args = jnp.zeros(1000), jnp.ones(1000)
    program = Program(Function(lambda out, x: (2 * x,), args, donated=1))
    first = program()[0].unsafe_buffer_pointer()
    assert program()[0].unsafe_buffer_pointer() == first


def test_a_repeated_program_goes_on_from_its_results():
    args = jnp.zeros(3), jnp.ones(3), jnp.ones(3)
    once = Function(lambda x, old, step: (x + step, x, None), args, donated=2)
    program = Program(repeated(once, 5))
    for total in (5, 10):
        new, old = program()
        np.testing.assert_array_equal(new, [total] * 3)
        np.testing.assert_array_equal(old, [total - 1] * 3)


def test_one_function_is_compiled_anew_each_time():
    def function(x):
        for _ in range(30):  # so much to compile that all else is little
            x = jnp.sin(x) @ x
        return x

    x = jnp.ones((64, 64))
    first, second = (Program(Function(function, (x,))) for _ in range(2))
    assert second.compile_s > first.compile_s / 20


def test_the_cache_on_disk_is_not_used(tmp_path):
    options = {
        "jax_compilation_cache_dir": str(tmp_path),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        "jax_enable_compilation_cache": True,
    }
    before = {name: jax.config.values[name] for name in options}
    x = jnp.ones(3)
    try:
        for name, value in options.items():
            jax.config.update(name, value)
        Program(Function(lambda x: x + 1, (x,)))
        assert not list(tmp_path.iterdir())
        assert jax.config.values["jax_enable_compilation_cache"] is True
        jax.jit(lambda x: x + 2)(x)
        assert list(tmp_path.iterdir())
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def test_a_call_counts_until_its_result_is_there():
    """Not until it is dispatched, which here takes no time at all."""

    class Late:
        def block_until_ready(self):
            time.sleep(0.05)

    times = interleaved({"late": Late, "at once": int}, seconds=0)
    assert [len(x) for x in times.values()] == [3, 3]
    assert times["late"].min() >= 0.05
    assert np.median(times["at once"]) < 0.05


def test_repetitions_go_on_until_the_time_is_up():
    programs = {"a": Program(Function(lambda x: x + 1, (jnp.ones(3),)))}
    assert len(interleaved(programs, seconds=0.2, least=1)["a"]) > 10


def test_ratio_is_taken_within_repetitions():
    """The machine slows down threefold: the ratio stays."""
    reference = np.array([1.0, 1.0, 3.0, 3.0])
    assert ratio(2 * reference, reference) == {"median": 2, "low": 2, "high": 2}
    assert quartiles(np.arange(5.0)) == {"median": 2, "low": 1, "high": 3}


def test_temporary_memory_is_known():
    program = Program(Function(lambda x: x @ x @ x, (jnp.ones((256, 256)),)))
    assert program.temporary_mb == pytest.approx(256 * 256 * 4e-6, rel=0.1)
