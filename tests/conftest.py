"""Strict numerics, and the same random numbers in every run."""

import gc
import os

import hypothesis
import jax
import pytest

# Most of the time here is spent compiling small programs. XLA cuts each into up to 32
# parts, to compile them in parallel; the workers of pytest keep the cores busy already,
# and what is cut costs a fourth more in all. Read when the first program is compiled.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_parallel_codegen_split_count=1")

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Derandomized: a failure seen in CI is seen by everybody. Compiling takes longer than
# any deadline would allow.
hypothesis.settings.register_profile(
    "default",
    derandomize=True,
    deadline=None,
    max_examples=40,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("default")


def pytest_collection_finish():
    """JAX and the tests stay: looking through them again costs a twentieth."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)


@pytest.fixture
def lenient_promotion():
    """JAX's own defaults: for examples, and for Optax's Adam, which raises floats to
    integer powers."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
