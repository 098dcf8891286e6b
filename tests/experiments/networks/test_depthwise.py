"""Both ways to convolve depthwise give the same, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.networks import depthwise


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("size", "height", "width"), [(3, 8, 7), (5, 7, 8)])
def test_shifts_equal_the_grouped_convolution(size, height, width, stride):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, height, width, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(size, size, 1, 3)), jnp.float32)

    def output_and_gradients(convolve):
        output, pullback = jax.vjp(lambda x, k: convolve(x, k, stride), x, kernel)
        return output, *pullback(jnp.cos(output))

    ours, reference = jax.jit(
        lambda: [
            output_and_gradients(convolve)
            for convolve in (depthwise.by_shifts, depthwise.by_grouped_conv)
        ]
    )()
    for a, b in zip(ours, reference, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
