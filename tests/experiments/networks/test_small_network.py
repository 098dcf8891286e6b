"""The network, and its convolution against JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_task
from flax import nnx

from experiments.networks.small import ShiftedConv


@pytest.mark.parametrize("size", [3, 4])
def test_shifted_conv_equals_lax_conv(size):
    def reference(kernel, bias, x):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ) + jnp.reshape(bias, (1, 1, 1, 7))

    def ours(kernel, bias, x):
        conv = nnx.eval_shape(lambda: ShiftedConv(3, 7, size=size, rngs=nnx.Rngs(0)))
        values = nnx.State({"kernel": kernel, "bias": bias})
        return nnx.merge(nnx.graphdef(conv), values)(x)

    shapes = {"kernel": (size, size, 3, 7), "bias": (7,), "x": (2, 6, 9, 3)}
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes.values()]
    weights = jnp.asarray(rng.normal(size=(2, 6, 9, 7)), jnp.float32)

    def output_and_gradients(f):
        output, pullback = jax.vjp(f, *arrays)
        return output, *pullback(weights)

    # Sums of up to 108 terms, of which the float32 roundings differ by order.
    for a, b in zip(
        *jax.jit(lambda: [output_and_gradients(f) for f in (ours, reference)])(),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-5 * float(np.abs(b).max()))


def test_a_gate_of_zero_takes_a_channel_out_of_all_that_follows():
    network = small_task.SMALL.build(jax.tree.map(lambda x: x[0], small_task.params()))
    images = jax.random.uniform(jax.random.key(1), (5, 4, 4, 1))
    features = jax.jit(lambda gates: network.features(images, gates=gates))
    sizes = {"conv1": 4, "conv2": 6, "conv3": 8, "dense": 16}
    gates = {name: jnp.ones(size) for name, size in sizes.items()}
    before = features(gates)
    shapes = {name: x.shape[1:] for name, x in before.items()}
    assert shapes == {
        "conv1": (2, 2, 4), "conv2": (1, 1, 6), "conv3": (1, 1, 8), "dense": (16,)
    }  # fmt: skip
    after = features({**gates, "conv2": gates["conv2"].at[3].set(0)})
    np.testing.assert_array_equal(after["conv1"], before["conv1"])
    np.testing.assert_array_equal(after["conv2"], before["conv2"].at[..., 3].set(0))
    assert not np.allclose(after["conv3"], before["conv3"])
