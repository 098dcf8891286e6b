"""EfficientNet-Lite0 with its ImageNet weights, on photographs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from flax import nnx
from PIL import Image
from sklearn.datasets import load_sample_images

from experiments.networks import load
from experiments.networks.efficientnet import DepthwiseConv, EfficientNetLite0

SIDE = 224
PALACE, DAISY = 698, 985


@pytest.fixture(scope="module")
def network():
    network = load("efficientnet-lite0")
    network.eval()
    return network


@pytest.mark.slow
def test_sample_photographs_are_recognized(network):
    sample = load_sample_images()
    images = []
    for photograph in sample.images:
        height, width, _ = photograph.shape
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = photograph[top : top + side, left : left + side]
        images.append(np.asarray(Image.fromarray(square).resize((SIDE, SIDE))))
    names = [str(name).rpartition("/")[2] for name in sample.filenames]
    logits = nnx.jit(lambda net, x: net(net.normalize(x)))(network, np.stack(images))
    classes = [int(n) for n in jnp.argmax(logits, axis=-1)]
    found = dict(zip(names, classes, strict=True))
    assert found == {"china.jpg": PALACE, "flower.jpg": DAISY}


@pytest.mark.slow
def test_outputs_equal_pytorchs(network):
    expected = np.load(reference.HERE / "efficientnet-lite0.npz")
    images = jnp.asarray(reference.images())
    pooled = nnx.jit(lambda net, x: net.features(x)["pooled"])(network, images)
    found = {"pooled": pooled, "logits": network(pooled, start="pooled")}
    for name, value in found.items():
        atol = 1e-4 * np.abs(expected[name]).max()
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=atol)


def test_stages_have_the_papers_shapes(network):
    images = jnp.zeros((1, SIDE, SIDE, 3))
    shapes = jax.eval_shape(network.features, images)
    assert [shapes[name].shape[1:] for name in EfficientNetLite0.stages] == [
        (112, 112, 16),
        (56, 56, 24),
        (28, 28, 40),
        (14, 14, 80),
        (14, 14, 112),
        (7, 7, 192),
        (7, 7, 320),
        (1280,),
    ]


@pytest.mark.parametrize(
    ("size", "height", "width", "stride"), [(3, 8, 7, 2), (5, 7, 8, 1)]
)
def test_depthwise_convolution_equals_jaxs(size, height, width, stride):
    x = jax.random.normal(jax.random.key(0), (2, height, width, 3))
    conv = DepthwiseConv(3, size, stride, rngs=nnx.Rngs(0))

    def ours(x, kernel):
        return nnx.merge(nnx.graphdef(conv), nnx.State({"kernel": kernel}))(x)

    def reference(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", feature_group_count=3,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    def output_and_gradients(convolve, kernel=conv.kernel[...]):
        output, pullback = jax.vjp(convolve, x, kernel)
        return output, *pullback(jnp.cos(output))

    both = jax.jit(lambda: [output_and_gradients(f) for f in (ours, reference)])()
    for a, b in zip(*both, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
