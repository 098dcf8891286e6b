"""PyTorch's two formats, and files that mean harm or are damaged."""

import collections
import contextlib
import io
import os
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest

from experiments.errors import InputError
from experiments.networks import torch_file

MAGIC = 0x1950A86A20F9469CFC6C
SYSTEM = {"little_endian": True, "protocol_version": 1001, "type_sizes": {"int": 4}}
SIX = np.arange(6, dtype=np.float32)


class Storage:
    """Stands for a storage of a pickled tensor."""

    def __init__(self, key, size, kind="FloatStorage"):
        self.id = ("storage", getattr(sys.modules["torch"], kind), key, "cpu", size)


class Call:
    """Is pickled as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        return obj.id if isinstance(obj, Storage) else None


@pytest.fixture(autouse=True)
def torch_names(monkeypatch):
    """The names that PyTorch's pickles import, so that pickles of them can be made."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2():
        raise AssertionError("called")

    for name in ("FloatStorage", "LongStorage", "BFloat16Storage", "QUInt8Storage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch._utils = utils
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def tensor(storage, offset, shape, strides):
    rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
    hooks = collections.OrderedDict()
    return Call(rebuild, storage, offset, shape, strides, False, hooks)


def pickled(obj, protocol=2):
    stream = io.BytesIO()
    Pickler(stream, protocol).dump(obj)
    return stream.getvalue()


def legacy(state_dict, storages, protocol=2):
    """A file as before PyTorch 1.6; of each storage, its size and its bytes."""
    header = [pickled(x) for x in (MAGIC, 1001, SYSTEM)]
    body = [pickled(x, protocol) for x in (state_dict, list(storages))]
    data = [n.to_bytes(8, "little", signed=True) + x for n, x in storages.values()]
    return b"".join([*header, *body, *data])


def zipped(state_dict, storages, protocol=2, compression=zipfile.ZIP_STORED):
    """A file as since PyTorch 1.6; the sizes are not written."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("weights/data.pkl", pickled(state_dict, protocol))
        archive.writestr("weights/byteorder", "little")
        for key, (_, data) in storages.items():
            archive.writestr(f"weights/data/{key}", data)
        archive.writestr("weights/version", "3\n")
    return stream.getvalue()


FORMATS = pytest.mark.parametrize("write", [legacy, zipped])


@FORMATS
def test_tensors_share_storages_and_may_be_transposed(write):
    storage = Storage("7", 6)
    state_dict = collections.OrderedDict(
        rows=tensor(storage, 0, (2, 3), (3, 1)),
        columns=tensor(storage, 0, (3, 2), (1, 3)),
        last=tensor(storage, 5, (), ()),
        count=tensor(Storage("8", 1, "LongStorage"), 0, (1,), (1,)),
        half=tensor(Storage("9", 1, "BFloat16Storage"), 0, (1,), (1,)),
    )
    state_dict._metadata = {"version": 1}  # PyTorch's does; pickled with BUILD
    storages = {"8": (1, np.int64(9).tobytes()), "9": (1, b"\x80\x3f")}
    found = torch_file.read(write(state_dict, {"7": (6, SIX.tobytes()), **storages}))
    np.testing.assert_array_equal(found["rows"], SIX.reshape(2, 3))
    np.testing.assert_array_equal(found["columns"], SIX.reshape(2, 3).T)
    assert (found["last"].shape, float(found["last"])) == ((), 5)
    assert (found["count"].dtype, found["count"].tolist()) == (np.int64, [9])
    assert (found["half"].dtype.name, float(found["half"][0])) == ("bfloat16", 1)


@FORMATS
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_is_called(protocol, write, tmp_path):
    victim = tmp_path / "victim"
    content = write({"weight": Call(os.mkdir, str(victim))}, {}, protocol=protocol)
    with pytest.raises(InputError, match="refused"):
        torch_file.read(content)
    assert not victim.exists()


def test_what_was_refused_is_named():
    with pytest.raises(InputError, match=rf"import '{os.name} system'"):
        torch_file.read(zipped({"weight": Call(os.system, "true")}, {}))
    quantized = tensor(Storage("7", 1, "QUInt8Storage"), 0, (), ())
    with pytest.raises(InputError, match="'torch QUInt8Storage'"):
        torch_file.read(legacy({"weight": quantized}, {}))


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ((1, (6,), (1,)), "w is not within its storage of 6"),
        ((0, (2, 3), (4, 1)), "not within"),
        ((-1, (2,), (1,)), "not within"),
        ((5, (6,), (-1,)), "not within"),
        ((0, (-6,), (1,)), "not within"),
        ((0, (0,), (1,)), "not within"),
        ((0, (2**40,), (0,)), "not within"),  # one element, over and over
        ((0, (2, 3), (1,)), "damaged"),  # strides for another shape
        ((0, (True,), (1,)), "w is not a tensor"),
        ((0, (6,), (None,)), "w is not a tensor"),
        ((0, 6, 1), "w is not a tensor"),
    ],
)
def test_a_tensor_that_its_storage_does_not_hold_is_refused(view, message):
    content = zipped({"w": tensor(Storage("7", 6), *view)}, {"7": (6, SIX.tobytes())})
    with pytest.raises(InputError, match=message):
        torch_file.read(content)


@FORMATS
def test_a_second_dtype_for_one_storage_is_refused(write):
    state_dict = {
        "w": tensor(Storage("7", 6), 0, (6,), (1,)),
        "n": tensor(Storage("7", 6, "LongStorage"), 0, (6,), (1,)),
    }
    with pytest.raises(InputError, match="not within its storage"):
        torch_file.read(write(state_dict, {"7": (6, SIX.astype(np.int64).tobytes())}))


@pytest.mark.parametrize("size", [7, 2**62, -1])
def test_a_storage_beyond_the_file_is_refused(size):
    content = legacy(
        {"w": tensor(Storage("7", 6), 0, (6,), (1,))}, {"7": (size, SIX.tobytes())}
    )
    with pytest.raises(InputError, match="damaged"):
        torch_file.read(content)


@pytest.mark.parametrize(
    ("state_dict", "message"),
    [
        ([1], "expected a state_dict, got a list"),
        ({"model": {}}, "model is not a tensor but a dict"),
        ({1: 2}, "expected names, got a int"),
    ],
)
def test_anything_but_tensors_by_name_is_refused(state_dict, message):
    with pytest.raises(InputError, match=message):
        torch_file.read(zipped(state_dict, {}))


def test_a_zip_archive_that_could_grow_is_refused():
    bomb = zipped({}, {"7": (0, bytes(10**6))}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="compressed or shared"):
        torch_file.read(bomb)


def test_names_that_take_forever_to_hash_are_refused():
    deep = b"\x80\x02}("  # a dict, and as its key tuples of twice the one before
    deep += b")" + b"".join(b"q\x01h\x01\x86" for _ in range(64)) + b"Nu."
    header = b"".join(pickled(x) for x in (MAGIC, 1001, SYSTEM))
    with pytest.raises(InputError, match="expected names, got a tuple"):
        torch_file.read(header + deep)


@pytest.mark.filterwarnings("ignore:invalid escape")  # from pickletools
@FORMATS
def test_damage_is_an_input_error(write):
    """Cut anywhere, or one byte changed, which may not matter."""
    state_dict = {"w": tensor(Storage("7", 6), 0, (2, 3), (3, 1))}
    content = write(state_dict, {"7": (6, SIX.tobytes())})
    for length in range(len(content)):
        with pytest.raises(InputError):
            torch_file.read(content[:length])
    rng = np.random.default_rng(0)
    for at, byte in rng.integers(0, [len(content), 256], (300, 2)):
        with contextlib.suppress(InputError):
            torch_file.read(content[:at] + bytes([byte]) + content[at + 1 :])
