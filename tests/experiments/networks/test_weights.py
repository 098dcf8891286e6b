"""From a weight file to a network, and what is said where that does not work."""

import io
import json

import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from huggingface_hub import constants

from experiments.errors import InputError
from experiments.finetune import saved
from experiments.networks import Upper, stages_of, weight_files, weights

KINDS = {"bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}


def blank(classes=1000):
    """ResNet-18's tensors, all zero, as torchvision names them and lays them out."""
    pretrained = weights.NETWORKS["resnet18"]
    network = nnx.eval_shape(lambda: pretrained.build(classes, rngs=nnx.Rngs(0)))
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    return {
        weights.torch_name(pretrained.kind, path): np.zeros(
            [v.shape[i] for i in axes[len(v.shape)]], np.float32
        )
        for path, v in nnx.to_flat_state(nnx.state(network))
    }


@pytest.fixture(scope="module")
def tensors():
    return blank()


def test_names_and_layouts_are_torchvisions(tensors):
    assert len(tensors) == 102
    assert tensors["conv1.weight"].shape == (64, 3, 7, 7)
    assert tensors["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert tensors["layer2.0.downsample.1.running_var"].shape == (128,)
    assert tensors["fc.weight"].shape == (1000, 512)


def test_a_safetensors_file_is_loaded_whatever_its_dtypes(tensors, tmp_path):
    path = tmp_path / "model.safetensors"
    values = (np.arange(64) % 5).astype(np.float32)
    dtypes = ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float64")
    names = [f"layer1.{n}.bn{k}.bias" for n in (0, 1) for k in (1, 2)] + ["bn1.bias"]
    arrays = tensors | {"bn1.num_batches_tracked": np.zeros((), np.int64)}
    for name, dtype in zip(names, dtypes, strict=True):
        arrays[name] = values.astype(dtype)
    header, at = {}, 0
    for name, x in arrays.items():
        kind = KINDS.get(x.dtype.name, f"{x.dtype.kind.upper()}{8 * x.itemsize}")
        offsets = [at, at := at + x.nbytes]
        header[name] = {"dtype": kind, "shape": x.shape, "data_offsets": offsets}
    text = json.dumps(header).encode()
    data = [len(text).to_bytes(8, "little"), text]
    path.write_bytes(b"".join([*data, *(x.tobytes() for x in arrays.values())]))
    network = weights.load("resnet18", path)
    blocks = [network.stage1.layers[n] for n in (0, 1)]
    norms = [norm for x in blocks for norm in (x.bn1, x.bn2)] + [network.bn1]
    for norm in norms:
        assert norm.bias.dtype == np.float32
        np.testing.assert_array_equal(norm.bias[...], values)


def test_a_dtype_that_numpy_has_no_form_of_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    header = b'{"w":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(InputError, match=r"w has an unsupported dtype, F4; .*convert"):
        weights.load("resnet18", path)


def test_a_file_for_another_number_of_classes_is_loaded(tmp_path):
    path = tmp_path / "places.safetensors"
    safetensors.numpy.save_file(blank(classes=7), path)
    assert weights.load("resnet18", path).head.kernel.shape == (512, 7)


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
        f"{path} does not fit resnet18: layer1.0.conv1.weight is missing; "
        "layer1.0.conv9.weight is unexpected; "
        "fc.weight is (512, 1000) and not (512, 10) in Flax layout"
    )
    with pytest.raises(InputError, match=r"conv1.weight is missing; and 97 more$"):
        weights.port("resnet18", {})


def npz():
    stream = io.BytesIO()
    np.savez(stream, w=np.zeros(3))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "model.safetensors is empty"),
        (b"\n <!DOCTYPE html><html>Sign in</html>", r"is a web page \(HTML\)"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid",
            "a Git LFS pointer; .*pull",
        ),
        (b"\x89HDF\r\n\x1a\n", "is in the HDF5 format"),
        (b"\x82\xa6params\x80", "is in an unknown format"),  # Flax' msgpack
        (npz(), r"a zip archive \(such as .npz\)"),
        (b"\0" * 20, "is in an unknown format"),
        (b"\x02\0\0\0\0\0\0\0{]", "cannot read the weights in "),
    ],
)
def test_something_else_in_place_of_weights_is_named(content, message, tmp_path):
    path = tmp_path / "model.safetensors"  # the content tells the format, not the name
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{message}.*to convert: safetensors.torch"):
        weights.load("resnet18", path)


def test_a_missing_file_is_an_input_error(tmp_path):
    for path in (tmp_path / "missing.pth", tmp_path):
        with pytest.raises(InputError, match="cannot read the weights in"):
            weights.load("resnet18", path)


def test_an_unknown_network_is_an_error_that_lists_the_known():
    for function in (weights.load, stages_of):
        with pytest.raises(InputError, match=r"'vgg'; known: resnet18, .*efficientnet"):
            function("vgg")


def test_offline_a_file_is_asked_for(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"cannot download .*pass its path"):
        weight_files.from_hub("timm/no-such-network-is-cached")


def test_the_package_has_the_known_file(monkeypatch):
    assert weight_files.from_package().suffix == ".pth"
    monkeypatch.setattr(weight_files, "PACKAGE_SHA256", "0" * 64)
    with pytest.raises(InputError, match=r"SHA-256 0{64}, got 5"):
        weight_files.from_package()
    monkeypatch.setattr(weight_files, "PACKAGE", "no-such-package")
    with pytest.raises(InputError, match="pip install no-such-package"):
        weight_files.from_package()


def test_where_only_the_head_is_trained_the_whole_network_is_saved(tensors, tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(tensors, path)
    spec = Upper("resnet18", "stage4", 2, str(path))
    params = spec.pretrained()
    assert list(params) == ["head"]
    about = {"classes": ["a", "b"], "preprocessing": {"resize": 37, "crop": 32}}
    saved.save(tmp_path, spec, params, about)
    shares = saved.load(tmp_path).probabilities(np.zeros((3, 32, 32, 3), np.uint8))
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
