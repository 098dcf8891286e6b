"""The reader of PyTorch's old format, and files that mean harm or are damaged."""

import builtins
import collections
import io
import os
import pickle
import sys
import types

import numpy as np
import pytest

from experiments.errors import InputError
from experiments.networks import legacy_pickle

SYSTEM = {"little_endian": True, "protocol_version": 1001, "type_sizes": {"int": 4}}


class Storage:
    """Stands for a storage of a pickled tensor; ``size`` is what the pickle says."""

    def __init__(self, key, size, kind="FloatStorage"):
        self.id = (
            "storage",
            getattr(sys.modules["torch"], kind),
            key,
            "cpu",
            size,
            None,
        )


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

    for name in ("FloatStorage", "LongStorage", "QUInt8Storage"):
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


def write(path, state_dict, storages, magic=legacy_pickle.MAGIC_NUMBER, protocol=2):
    """Writes a file as ``torch.save`` did; storages are pairs of size and bytes."""
    stream = io.BytesIO()
    for obj in (magic, legacy_pickle.PROTOCOL, SYSTEM, state_dict, list(storages)):
        Pickler(stream, protocol).dump(obj)
    for size, data in storages.values():
        stream.write(size.to_bytes(8, "little", signed=True) + data)
    path.write_bytes(stream.getvalue())
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


SIX = np.arange(6, dtype=np.float32)


def test_tensors_share_storages_and_may_be_transposed(path):
    storage = Storage("7", 6)
    state_dict = collections.OrderedDict(
        rows=tensor(storage, 0, (2, 3), (3, 1)),
        columns=tensor(storage, 0, (3, 2), (1, 3)),
        last=tensor(storage, 5, (), ()),
        count=tensor(Storage("8", 1, "LongStorage"), 0, (1,), (1,)),
    )
    state_dict._metadata = {"version": 1}  # PyTorch's does; pickled with BUILD
    count = (1, np.int64(9).tobytes())
    write(path, state_dict, {"7": (6, SIX.tobytes()), "8": count})
    found = legacy_pickle.load(path)
    np.testing.assert_array_equal(found["rows"], SIX.reshape(2, 3))
    np.testing.assert_array_equal(found["columns"], SIX.reshape(2, 3).T)
    assert found["last"] == 5
    assert found["last"].shape == ()
    assert (found["count"].dtype, found["count"].tolist()) == (np.int64, [9])


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (os.system, "touch {}"),
        (builtins.eval, "open({!r}, 'w')"),
        (builtins.open, "{}"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_is_called(function, argument, protocol, path, tmp_path):
    victim = tmp_path / "victim"
    call = Call(function, argument.format(str(victim)))
    write(path, {"weight": call}, {}, protocol=protocol)
    with pytest.raises(InputError, match="refused"):
        legacy_pickle.load(path)
    assert not victim.exists()


def test_what_was_refused_is_named(path):
    write(path, {"weight": Call(os.system, "true")}, {})
    with pytest.raises(InputError, match=rf"weights.pth: refused .*'{os.name} system'"):
        legacy_pickle.load(path)
    write(path, {"weight": tensor(Storage("7", 1, "QUInt8Storage"), 0, (), ())}, {})
    with pytest.raises(InputError, match="'torch QUInt8Storage'"):
        legacy_pickle.load(path)


@pytest.mark.parametrize(
    "view",
    [
        (1, (6,), (1,)),  # one too far
        (0, (2, 3), (4, 1)),
        (-1, (2,), (1,)),
        (5, (6,), (-1,)),
        (0, (-6,), (1,)),
        (0, (0,), (1,)),
        (0, (2**40,), (0,)),  # one element, over and over
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(path, view):
    write(path, {"w": tensor(Storage("7", 6), *view)}, {"7": (6, SIX.tobytes())})
    with pytest.raises(InputError, match="w does not lie within its storage of 6"):
        legacy_pickle.load(path)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ((0, (2, 3), (1,)), "damaged"),  # strides for another shape
        ((0, (True,), (1,)), "refused to call"),
        ((0, (6,), (None,)), "refused to call"),
        ((0, 6, 1), "refused to call"),
    ],
)
def test_a_malformed_tensor_is_refused(path, view, message):
    write(path, {"w": tensor(Storage("7", 6), *view)}, {"7": (6, SIX.tobytes())})
    with pytest.raises(InputError, match=message):
        legacy_pickle.load(path)


@pytest.mark.parametrize(
    ("said", "written", "message"),
    [
        (6, 7, "storage 7 should have 6 elements, has 7"),
        (7, 6, "storage 7 should have 7 elements, has 6"),
        (7, 7, "damaged"),  # and 6 are there
        (2**62, 2**62, "damaged"),
        (-1, -1, "refused a persistent id"),
    ],
)
def test_a_storage_that_lies_about_its_size_is_refused(path, said, written, message):
    state_dict = {"w": tensor(Storage("7", said), 0, (6,), (1,))}
    write(path, state_dict, {"7": (written, SIX[:6].tobytes())})
    with pytest.raises(InputError, match=message):
        legacy_pickle.load(path)


def test_a_second_type_for_one_storage_is_refused(path):
    state_dict = {
        "w": tensor(Storage("7", 6), 0, (6,), (1,)),
        "n": tensor(Storage("7", 6, "LongStorage"), 0, (6,), (1,)),
    }
    write(path, state_dict, {"7": (6, SIX.astype(np.int64).tobytes())})
    with pytest.raises(InputError, match="w does not lie within its storage"):
        legacy_pickle.load(path)


@pytest.mark.parametrize(
    ("state_dict", "message"),
    [
        ([1], "expected a state_dict, got a list"),
        ({"w": 1}, "w is no tensor but a int"),
        ({"w": {}}, "w is no tensor but a dict"),
        ({1: 2}, "keys other than strings"),
    ],
)
def test_anything_but_tensors_by_name_is_refused(path, state_dict, message):
    with pytest.raises(InputError, match=message):
        legacy_pickle.load(write(path, state_dict, {}))


def test_another_magic_number_is_refused(path):
    write(path, {}, {}, magic=12345)
    with pytest.raises(InputError, match="magic number is not"):
        legacy_pickle.load(path)


def test_a_file_cut_anywhere_is_refused(path):
    state_dict = {"w": tensor(Storage("7", 6), 0, (6,), (1,))}
    content = write(path, state_dict, {"7": (6, SIX.tobytes())}).read_bytes()
    assert legacy_pickle.load(path)["w"].shape == (6,)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"weights\.pth"):
            legacy_pickle.load(path)


@pytest.mark.parametrize("seed", range(4))
def test_no_damage_leads_to_another_error(path, seed):
    state_dict = {"w": tensor(Storage("7", 6), 0, (2, 3), (3, 1))}
    content = write(path, state_dict, {"7": (6, SIX.tobytes())}).read_bytes()
    rng = np.random.default_rng(seed)
    refused = 0
    for _ in range(500):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            legacy_pickle.load(path)
        except InputError:
            refused += 1
    assert refused > 250
