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
    """A network with drawn weights, its outputs, those in two parts, and PyTorch's."""
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

    @nnx.jit
    def run(net, x):
        cut = net.trunk(x, "stage3")
        return net.features(x) | {"logits": net(x)}, cut, net(cut, start="stage3")

    maps, *parts = run(network, images)
    return network, maps, parts, expected


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
    _, maps, _, expected = case
    assert_equal_outputs(thin(maps), expected)


def test_trunk_and_the_rest_make_the_whole(case):
    _, maps, (cut, logits), _ = case
    whole = {name: maps[name] for name in ("stage3", "logits")}
    assert_equal_outputs({"stage3": cut, "logits": logits}, whole)


@pytest.mark.slow  # compiles the backward pass
def test_layers_before_start_are_not_run(case):
    network = nnx.clone(case[0])
    network.train()
    cached, mean = case[1]["stage3"], network.stage3.layers[0].bn1.mean[...]
    gradient = nnx.jit(nnx.grad(lambda net: (net(cached, "stage3") ** 2).sum()))
    grads = nnx.to_flat_state(gradient(network))
    moved = {path[0] for path, g in grads if jnp.any(g[...] != 0)}
    assert moved == {"stage4", "head"}
    np.testing.assert_array_equal(network.stage3.layers[0].bn1.mean[...], mean)


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


def test_an_unknown_depth_or_stage_is_an_error_that_lists_the_known():
    with pytest.raises(InputError, match="'34'; known: 18, 50, 101"):
        ResNet(34, 10, rngs=nnx.Rngs(0))
    network = nnx.eval_shape(lambda: ResNet(18, 10, rngs=nnx.Rngs(0)))
    for method in network.features, network.trunk:
        with pytest.raises(InputError, match=r"'stem'; known: stage1, .*, pooled"):
            method(jnp.asarray(reference.images()), "stem")
