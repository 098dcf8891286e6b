"""The upper part of a pretrained network computes what the whole one does."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from experiments.errors import InputError
from experiments.networks import NETWORKS, Upper, activations, load, stages_of
from experiments.networks.upper import UpperNetwork
from experiments.networks.weight_files import from_package, read

SIDE = 64
WEIGHTS = str(from_package())


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def network():
    network = load("efficientnet-lite0")
    network.eval()
    return network


def test_equal_to_the_upper_part_of_the_network(network):
    """With ImageNet's own head: the same logits as the network in evaluation mode."""
    spec = Upper("efficientnet-lite0", "stage6")
    head = nnx.to_pure_dict(nnx.state(network.head, nnx.Param))
    upper = spec.build({**spec.pretrained(), "head": head})
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 2, 192)), jnp.float32)

    @nnx.jit
    def both(upper, network, x):
        maps = upper.features(x)
        assert list(maps) == ["stage7", "pooled"]
        return upper.head(maps["pooled"]), network(x, start="stage6")

    np.testing.assert_allclose(*both(upper, network, x), rtol=1e-4, atol=1e-4)


def test_activations_are_those_of_the_trunk_and_found_again(network, images, tmp_path):
    def call(images, **options):
        return activations("efficientnet-lite0", "stage1", images, tmp_path, **options)

    made = call(images)
    trunk = nnx.jit(lambda network, x: network.trunk(network.normalize(x), "stage1"))
    np.testing.assert_allclose(made, trunk(network, images), rtol=1e-2, atol=1e-2)
    (file,) = tmp_path.iterdir()
    stamp = file.stat().st_mtime_ns
    np.testing.assert_array_equal(call(images), made)
    assert file.stat().st_mtime_ns == stamp
    np.testing.assert_allclose(call(images[:2]), made[:2], atol=1e-2)
    np.testing.assert_array_equal(call(images, weights=WEIGHTS), made)
    assert len(list(tmp_path.iterdir())) == 3
    file.write_bytes(file.read_bytes()[:-9])  # damaged: made again
    np.testing.assert_array_equal(call(images), made)
    assert file.stat().st_mtime_ns != stamp
    with pytest.raises(FileNotFoundError):
        call(images, weights="no-such-file")


def test_new_parameters_fit_and_gates_silence_a_channel():
    spec = Upper("efficientnet-lite0", "stage7", classes=5)
    params = spec.init(jax.random.key(0))
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes == jax.tree.map(jnp.shape, spec.pretrained())
    assert shapes["head"] == {"bias": (5,), "kernel": (1280, 5)}
    assert set(shapes["body"]) == {"conv_head", "bn1"}

    @jax.jit
    def pooled(gates):
        maps = spec.build(params).features(jnp.ones((2, 2, 2, 320)), gates=gates)
        return maps["pooled"]

    gates = jnp.ones(1280)
    expected = pooled({"pooled": gates}).at[:, 3].set(0)
    np.testing.assert_allclose(pooled({"pooled": gates.at[3].set(0.0)}), expected)


def test_no_statistics_are_left_in_a_resnet():
    """Those of a ResNet's shortcuts are frozen too."""
    network = nnx.eval_shape(
        lambda: UpperNetwork(
            NETWORKS["resnet18"].build(5, rngs=nnx.Rngs(0)),
            Upper("resnet18", "stage3", 5),
            rngs=nnx.Rngs(0),
        )
    )
    assert not jax.tree.leaves(nnx.state(network, nnx.BatchStat))
    assert jax.tree.leaves(nnx.state(network, nnx.Param))


@pytest.mark.slow
def test_the_whole_network_takes_images(network, images):
    """Without a start: the same as a part that begins behind the stem's first stage."""
    spec = Upper("efficientnet-lite0", None, classes=5)
    whole = spec.build(spec.pretrained())
    run = nnx.jit(lambda network, x: network.features(x))
    maps = run(whole, images[:1])
    assert set(maps) == {*(f"stage{n}" for n in range(1, 8)), "pooled"}
    expected = run(network, network.normalize(jnp.asarray(images[:1])))
    np.testing.assert_allclose(maps["pooled"], expected["pooled"], atol=2e-4)


def test_a_weight_file_is_honoured(tmp_path):
    """A file with other numbers, under a name that says nothing of them."""
    tensors = read(from_package())
    bias = {"_bn1.bias": tensors["_bn1.bias"] + 1}
    save_file({k: np.array(x) for k, x in (tensors | bias).items()}, tmp_path / "w.bin")
    specs = [Upper("efficientnet-lite0", "stage7", 5, w) for w in (None, WEIGHTS)]
    specs.append(dataclasses.replace(specs[0], weights=str(tmp_path / "w.bin")))
    default, given, other = (x.pretrained()["body"]["bn1"]["bias"] for x in specs)
    np.testing.assert_array_equal(given, default)
    np.testing.assert_allclose(other, default + 1, rtol=1e-6)


def test_only_stages_with_something_after_them_are_a_start():
    assert stages_of("resnet18") == ("stage1", "stage2", "stage3", "stage4")
    assert stages_of("efficientnet-lite0")[-2:] == ("stage6", "stage7")
    for start in ("pooled", "stage9"):
        with pytest.raises(InputError, match=f"'{start}'; known: stage1, .*stage4$"):
            Upper("resnet18", start)
