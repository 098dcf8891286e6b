"""From a weight file to a network, and what is said where that does not work."""

import importlib.metadata

import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from huggingface_hub import constants

from experiments.errors import InputError
from experiments.networks import naming, sources, weights


@pytest.fixture(scope="module")
def tensors():
    """ResNet-18's, all zero, as timm and torchvision name them and lay them out."""
    build, torch_name, _ = weights.NETWORKS["resnet18"]
    state = nnx.state(nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0))))
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    return {
        torch_name(path): np.zeros([v.shape[i] for i in axes[len(v.shape)]], np.float32)
        for path, v in nnx.to_flat_state(state)
    }


def test_names_and_layouts_are_torchvisions(tensors):
    assert len(tensors) == 102
    known = {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_mean": (64,),
        "layer1.0.conv1.weight": (64, 64, 3, 3),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer2.0.downsample.1.running_var": (128,),
        "layer4.1.bn2.bias": (512,),
        "fc.weight": (1000, 512),
    }
    assert {name: tensors[name].shape for name in known} == known


def test_a_safetensors_file_is_loaded(tensors, tmp_path):
    path = tmp_path / "model.safetensors"
    seen = {"bn1.num_batches_tracked": np.zeros((), np.int64)}
    bias = {"fc.bias": np.arange(1000, dtype=np.float16)}
    safetensors.numpy.save_file(tensors | bias | seen, path)
    network = weights.load("resnet18", path)
    assert network.head.bias.dtype == np.float32
    np.testing.assert_array_equal(network.head.bias[...], np.arange(1000))


def test_a_file_that_does_not_fit_is_an_error_that_lists_what(tensors, tmp_path):
    path = tmp_path / "other.safetensors"
    wrong = dict(tensors)
    del wrong["layer1.0.conv1.weight"]
    wrong["layer1.0.conv9.weight"] = np.zeros(1, np.float32)
    wrong["fc.bias"] = np.zeros(10, np.float32)
    safetensors.numpy.save_file(wrong, path)
    with pytest.raises(InputError) as caught:
        weights.load("resnet18", path)
    assert str(caught.value) == (
        f"{path} does not fit resnet18: missing: layer1.0.conv1.weight; "
        "unexpected: layer1.0.conv9.weight; "
        "of another shape (as Flax lays them out): fc.bias (10,) instead of (1000,)"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.safetensors", None, "cannot read the weights"),
        ("damaged.safetensors", b"\0" * 20, "cannot read the weights"),
        ("weights.h5", b"", "in .safetensors or .pth files, not"),
    ],
)
def test_an_unreadable_file_is_an_input_error(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        weights.load("resnet18", tmp_path / name)


def test_an_unknown_network_is_an_error_that_lists_the_known():
    with pytest.raises(InputError, match=r"'vgg'; known: resnet18, .*efficientnet"):
        weights.load("vgg")


def test_offline_a_file_is_asked_for(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"offline mode is enabled.*give the path"):
        sources.from_hub("timm/no-such-network-is-cached")


def test_the_package_has_the_known_file():
    assert sources.from_package().suffix == ".pth"


def test_another_file_in_the_package_is_refused(monkeypatch):
    monkeypatch.setattr(sources, "PACKAGE_SHA256", "0" * 64)
    with pytest.raises(InputError, match=r"the SHA-256 digest 0{64}, has 5"):
        sources.from_package()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(sources, "PACKAGE", "no-such-package")
    with pytest.raises(InputError, match="pip install no-such-package") as caught:
        sources.from_package()
    assert isinstance(caught.value.__cause__, importlib.metadata.PackageNotFoundError)


def test_names_of_transformers_become_torchvisions():
    prefix = "resnet.encoder.stages.2.layers.0."
    names = {
        "resnet.embedder.embedder.normalization.bias": "bn1.bias",
        prefix + "shortcut.convolution.weight": "layer3.0.downsample.0.weight",
        prefix + "layer.1.normalization.running_var": "layer3.0.bn2.running_var",
        "classifier.1.weight": "fc.weight",
        "layer1.0.conv1.weight": "layer1.0.conv1.weight",
    }
    assert {name: naming.from_transformers(name) for name in names} == names
