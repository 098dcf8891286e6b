"""What the tests of ``experiments`` share: a small task that trains in a second."""

import jax
import pytest
import small_task


# Of modules, so that it holds for their fixtures: JAX compiles anew for each setting.
@pytest.fixture(autouse=True, scope="module")
def _promotion_as_users_have_it():
    """Adam in Optax raises a float to an int32 power, which "strict" does not allow."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="session")
def stripes():
    """60 images of 4x4 pixels whose class is the bright row."""
    return small_task.dataset()
