"""ResNet with ported weights, against PyTorch's outputs on the same input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from flax import nnx

from experiments.errors import InputError
from experiments.networks import ResNet, weights


@pytest.fixture(scope="module", params=reference.DEPTHS)
def case(request):
    """A network with drawn weights, its outputs, and PyTorch's."""
    depth = request.param
    expected = dict(np.load(reference.HERE / f"resnet{depth}.npz"))
    names, shapes = expected.pop("names"), expected.pop("shapes")
    tensors = {
        str(name): reference.draw(str(name), tuple(int(n) for n in shape if n))
        for name, shape in zip(names, shapes, strict=True)
    }
    network = weights.port(f"resnet{depth}", tensors)
    network.eval()
    images = jnp.asarray(reference.images())
    maps, logits = nnx.jit(lambda net, x: (net.features(x), net(x)))(network, images)
    return network, maps | {"logits": logits}, expected


def thin(maps):
    return {
        name: np.asarray(x[..., :: reference.EVERY] if x.ndim == 4 else x)
        for name, x in maps.items()
    }


def assert_equal_outputs(ours, theirs):
    assert set(ours) == set(theirs)
    for name, expected in theirs.items():
        # Relative to the largest entry: sums of thousands of terms, of both signs.
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            ours[name], expected, rtol=0, atol=1e-4 * scale, err_msg=name
        )


def test_outputs_equal_pytorchs(case):
    _, maps, expected = case
    assert_equal_outputs(thin(maps), expected)


def test_a_wrong_weight_does_not_pass(case):
    network, maps, expected = case
    stale = nnx.clone(network)
    stale.head.bias[...] += 0.01
    wrong = maps | {"logits": stale(maps["pooled"], start="pooled")}
    with pytest.raises(AssertionError, match="logits"):
        assert_equal_outputs(thin(wrong), expected)


def test_outputs_equal_those_of_an_installed_pytorch(case, request):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    _, maps, _ = case
    depth = request.node.callspec.params["case"]
    expected = reference.outputs(depth)
    names = ("stage1", "stage2", "stage3", "stage4", "pooled", "logits")
    assert_equal_outputs(thin(maps), {name: expected[name] for name in names})


def test_resnet101_has_as_many_parameters_as_torchvisions():
    network = nnx.eval_shape(lambda: ResNet(101, 1000, rngs=nnx.Rngs(0)))
    leaves = jax.tree.leaves(nnx.state(network, nnx.Param))
    assert sum(leaf.size for leaf in leaves) == 44_549_160


def test_statistics_move_by_a_tenth(case):
    trained = nnx.clone(case[0].bn1)
    old = trained.mean[...]
    trained.train()
    trained(jnp.full((1, 2, 2, 64), 3.0))
    np.testing.assert_allclose(trained.mean[...], 0.9 * old + 0.3, rtol=1e-5)


def test_normalize_gives_torchvisions_values():
    pixels = jnp.asarray([0, 128, 255], jnp.uint8).reshape(1, 1, 1, 3)
    expected = [-0.485 / 0.229, (128 / 255 - 0.456) / 0.224, 0.594 / 0.225]
    np.testing.assert_allclose(ResNet.normalize(pixels).reshape(3), expected, rtol=1e-5)


def test_an_unknown_depth_is_an_error_that_lists_the_known():
    with pytest.raises(InputError, match="'34'; known: 18, 50, 101"):
        ResNet(34, 10, rngs=nnx.Rngs(0))
