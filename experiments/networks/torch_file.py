"""Reads the tensors of a PyTorch state_dict without calling anything a file names.

Such a file contains a pickle, and unpickling runs whatever its author chose to call.
Here, the few opcodes that a state_dict needs only build tuples, lists and dicts. A
"call" returns its arguments, and any other opcode or name is an error. Arrays are views
of the file content, so a small file cannot create large ones.
"""

import io
import math
import pickletools
import zipfile
from typing import Any

import numpy as np

from experiments.errors import InputError

# The start of a file from before PyTorch 1.6: a pickle of its magic number.
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_DICT, _TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
_KINDS = {"Half": "f2", "Float": "f4", "Double": "f8", "Int": "i4", "Long": "i8"}
_KINDS["BFloat16"] = "bfloat16"
_DTYPES = {f"torch {kind}Storage": np.dtype(name) for kind, name in _KINDS.items()}


def read(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a state_dict by name, read-only, with the file's dtypes.

    Args:
      content: content of a file written by ``torch.save(network.state_dict(), path)``,
        in the zip format or, if it begins with ``LEGACY``, in the format from before
        PyTorch 1.6.

    Raises:
      InputError: if it is damaged, or contains anything but tensors in a dict.
    """
    try:
        return (_legacy if content.startswith(LEGACY) else _zip)(content)
    except InputError:
        raise
    # Damaged files raise any of these; an encrypted one raises RuntimeError.
    except (ArithmeticError, AttributeError, EOFError, LookupError, RuntimeError,
            TypeError, ValueError, zipfile.BadZipFile) as error:  # fmt: skip
        raise InputError(f"damaged PyTorch file ({error})") from error


def _legacy(content: bytes) -> dict[str, np.ndarray]:
    stream, storages = io.BytesIO(content), {}
    _, protocol, system, state, keys = (_interpret(stream) for _ in range(5))
    if protocol != 1001 or system["little_endian"] is not True:
        raise InputError("not a little-endian PyTorch file of protocol 1001")
    tensors, dtypes = _tensors(state)
    for key in map(_string, keys):
        size = int.from_bytes(stream.read(8), "little")
        storages[key] = np.frombuffer(content, dtypes[key], size, stream.tell())
        stream.seek(storages[key].nbytes, io.SEEK_CUR)
    return {name: _view(name, storages, *x) for name, x in tensors.items()}


def _zip(content: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {entry.filename: entry for entry in archive.infolist()}
        # PyTorch does not compress. Entries that share bytes could have any total size.
        size = sum(entry.file_size for entry in files.values())
        if size > len(content) or any(e.compress_type for e in files.values()):
            raise InputError("refused a zip archive with compressed or shared entries")
        folder = next((name[:-8] for name in files if name.endswith("/data.pkl")), None)
        if folder is None:
            raise InputError("a zip archive (such as .npz), but not from PyTorch")
        order = f"{folder}byteorder"  # since PyTorch 2.1
        if order in files and archive.read(order) != b"little":
            raise InputError("not a little-endian PyTorch file")
        pickled = io.BytesIO(archive.read(f"{folder}data.pkl"))
        tensors, dtypes = _tensors(_interpret(pickled))
        data = {key: archive.read(f"{folder}data/{key}") for key in dtypes}
    storages = {key: np.frombuffer(data[key], dtypes[key]) for key in dtypes}
    return {name: _view(name, storages, *x) for name, x in tensors.items()}


def _tensors(state: Any) -> tuple[dict[str, tuple], dict[str, np.dtype]]:
    """Storage, dtype, offset, shape and strides of each tensor; dtypes by storage."""
    if type(state) is not dict:
        raise InputError(f"expected a state_dict, got a {type(state).__name__}")
    tensors = {}
    for name, made in state.items():
        match made:
            case (
                ("storage", str(kind), str(key), *_),
                int(),
                tuple(),
                tuple(),
                *_,
            ) if kind in _DTYPES and all(type(n) is int for x in made[2:4] for n in x):
                tensors[name] = key, _DTYPES[kind], *made[1:4]
            case _:
                raise InputError(f"{name} is not a tensor but a {type(made).__name__}")
    return tensors, {key: dtype for key, dtype, *_ in tensors.values()}


def _view(name, storages, key, dtype, offset, shape, strides) -> np.ndarray:
    flat = storages[key]
    pairs = zip(shape, strides, strict=True)
    end = offset + sum((length - 1) * stride for length, stride in pairs) + 1
    # `as_strided` does not check bounds. The size is bounded too, because a stride of 0
    # could repeat one element without end.
    inside = max(end, math.prod(shape)) <= flat.size and min(*shape, 1, 1) > 0
    if flat.dtype != dtype or not inside or min(offset, *strides, 0) < 0:
        raise InputError(f"{name} is not within its storage of {flat.size}")
    steps = [stride * flat.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(flat[offset:], shape, steps, writeable=False)


def _string(key: Any) -> str:
    # Never hash anything else: hashing deeply nested tuples can take forever.
    if type(key) is not str:
        raise InputError(f"expected names, got a {type(key).__name__}")
    return key


def _named(name: str) -> str:
    if name not in (_DICT, _TENSOR, *_DTYPES):
        raise InputError(f"refused to import {name!r:.80}")
    return name


def _extend(target: list, *items: Any) -> list:
    target.extend(items)
    return target


def _update(target: dict, *items: Any) -> dict:
    target.update(zip(map(_string, items[::2]), items[1::2], strict=True))
    return target


# What an opcode makes of its argument, if any, and of what it pops off the stack.
_MAKE = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "GLOBAL": _named,
    "REDUCE": lambda name, arguments: {} if name == _DICT else arguments,
    "BUILD": lambda made, _: made,  # the state is the version numbers of layers
}
_VALUES = ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "BINPERSID", "STOP")
_TUPLES = ("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")
_MAKE |= dict.fromkeys(_VALUES, lambda x: x) | dict.fromkeys(_TUPLES, lambda *x: x)
_MAKE |= dict.fromkeys(("APPEND", "APPENDS"), _extend)
_MAKE |= dict.fromkeys(("SETITEM", "SETITEMS"), _update)


def _interpret(stream: io.BytesIO) -> Any:
    """The value of one pickle, with names as strings and calls as their arguments."""
    stack: list[Any] = []
    below: list[list[Any]] = []  # the stacks at each open mark
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(stream):
        name, takes = opcode.name, opcode.stack_before
        if name == "MARK":
            below.append(stack)
            stack = []
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _MAKE:
            inputs = [] if argument is None else [argument]
            if pickletools.markobject in takes:
                inputs, stack = stack, below.pop()
                takes = takes[: takes.index(pickletools.markobject)]
            inputs = [stack.pop() for _ in takes][::-1] + inputs
            stack.append(_MAKE[name](*inputs))
        elif name != "PROTO":
            raise InputError(f"refused opcode {name}, which no state_dict needs")
    return stack.pop()
