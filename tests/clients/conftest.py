"""Code of others runs here as its users run it, with JAX's own defaults."""

import os

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "allow")
jax.config.update("jax_numpy_dtype_promotion", "standard")

# Read when they are imported, and some of them import others.
os.environ.update(KERAS_BACKEND="jax", USE_TF="0", USE_TORCH="0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def pytest_collection_modifyitems(items):
    """Their warnings are theirs; that of this package remains an error."""
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("ignore"))
        item.add_marker(pytest.mark.filterwarnings("error:granularity="))
