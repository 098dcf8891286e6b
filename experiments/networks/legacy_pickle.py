"""Reads a PyTorch state_dict in the format from before PyTorch 1.6, calling nothing.

Such a file is a pickle, and unpickling runs whatever its author chose to call. Even a
``pickle.Unpickler`` with a short list of what may be imported still makes calls that
the file asks for. So no unpickler is used: the few opcodes that a state_dict needs are
interpreted here, what they "import" and "call" stays a name, and any other name or
opcode is an error.
"""

import io
import math
import pickletools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.errors import InputError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001

_DTYPES = {
    "torch HalfStorage": "<f2",
    "torch FloatStorage": "<f4",
    "torch DoubleStorage": "<f8",
    "torch IntStorage": "<i4",
    "torch LongStorage": "<i8",
}
_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_DICT = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"


class _Global(NamedTuple):
    """What the pickle would import."""

    name: str


class _Storage(NamedTuple):
    """The flat array, later in the file, that a tensor is a view of."""

    key: str
    dtype: np.dtype
    size: int


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a state_dict by name.

    Args:
      path: a file that ``torch.save(network.state_dict(), path)`` wrote before PyTorch
        1.6, or later with ``_use_new_zipfile_serialization=False``.

    Returns:
      Arrays of the file's shapes, as float16, -32, -64, int32 or int64.

    Raises:
      InputError: if the file is of another format, damaged, or holds anything but
        tensors in a dict; the message names what was refused.
      OSError: if the file cannot be read.
    """
    stream = io.BytesIO(path.read_bytes())
    try:
        return _load(stream)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    # What a damaged pickle leads to: too few items, too short, of the wrong type.
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: damaged PyTorch file ({error})") from error


def _load(stream: io.BytesIO) -> dict[str, np.ndarray]:
    _expect("magic number", _interpret(stream), MAGIC_NUMBER)
    _expect("protocol", _interpret(stream), PROTOCOL)
    _expect("little_endian", _interpret(stream)["little_endian"], True)
    tensors = _interpret(stream)
    if type(tensors) is not dict:
        raise InputError(f"expected a state_dict, got a {type(tensors).__name__}")
    for name, tensor in tensors.items():
        if type(tensor) is not _Tensor:
            raise InputError(f"{name} is no tensor but a {type(tensor).__name__}")
    storages = {t.storage.key: t.storage for t in tensors.values()}
    arrays = {key: _array(stream, storages[key]) for key in _interpret(stream)}
    return {n: _view(n, arrays[t.storage.key], t) for n, t in tensors.items()}


def _expect(what: str, found: object, expected: object) -> None:
    # Types first, and `found` is not shown: it can be nested without end.
    if type(found) is not type(expected) or found != expected:
        raise InputError(f"no legacy PyTorch file: its {what} is not {expected!r}")


def _array(stream: io.BytesIO, storage: _Storage) -> np.ndarray:
    """Reads the next storage: its size as int64, and the elements."""
    size = int.from_bytes(stream.read(8), "little", signed=True)
    if size != storage.size:
        raise InputError(
            f"storage {storage.key} should have {storage.size} elements, has {size}"
        )
    data = stream.read(size * storage.dtype.itemsize)
    return np.frombuffer(data, storage.dtype, size)  # an error where data is short


def _view(name: str, flat: np.ndarray, tensor: _Tensor) -> np.ndarray:
    """A copy of the part of a storage that a tensor covers."""
    _, offset, shape, strides = tensor
    steps = zip(shape, strides, strict=True)
    last = offset + sum((length - 1) * stride for length, stride in steps)
    # `as_strided` reads whatever it is told to. A stride of 0 could repeat one element
    # without end, hence the bound on the size as well.
    if (
        flat.dtype != tensor.storage.dtype
        or min(offset, *strides, 0) < 0
        or min(*shape, 1, 1) < 1
        or max(last + 1, math.prod(shape)) > flat.size
    ):
        raise InputError(f"{name} does not lie within its storage of {flat.size}")
    in_bytes = [stride * flat.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(flat[offset:], shape, in_bytes).copy()


def _interpret(stream: io.BytesIO) -> Any:
    """What one pickle says, in dicts, lists, tuples and the tuples named above."""
    stack: list[Any] = []
    below: list[list[Any]] = []  # The stacks as they were at each open mark.
    memo: dict[Any, Any] = {}
    while True:
        opcode = _OPCODES[stream.read(1)]
        # Opcodes that are refused do not even have their argument decoded.
        match opcode.name:
            case "PROTO":
                _argument(opcode, stream)
            case "STOP":
                return stack.pop()
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE":
                stack.append(_argument(opcode, stream))
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "MARK":
                below.append(stack)
                stack = []
            case "TUPLE":
                items, stack = stack, below.pop()
                stack.append(tuple(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [stack.pop() for _ in range(int(opcode.name[-1]))]
                stack.append(tuple(reversed(items)))
            case "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            case "APPENDS":
                items, stack = stack, below.pop()
                stack[-1].extend(items)
            case "SETITEMS":
                items, stack = stack, below.pop()
                _set(stack[-1], items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set(stack[-1], [key, value])
            case "BINPUT" | "LONG_BINPUT":
                memo[_argument(opcode, stream)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[_argument(opcode, stream)])
            case "GLOBAL":
                # Two lines, module and name; the reader of pickletools would unescape.
                lines = [stream.readline().removesuffix(b"\n") for _ in range(2)]
                name = b" ".join(lines).decode()
                if name not in (_DICT, _TENSOR, *_DTYPES):
                    raise InputError(f"refused to import {name!r}")
                stack.append(_Global(name))
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_called(function, arguments))
            case "BUILD":
                stack.pop()  # The version numbers of layers, an attribute of the dict.
            case name:
                raise InputError(f"refused opcode {name}, which no state_dict needs")


def _argument(opcode: pickletools.OpcodeInfo, stream: io.BytesIO) -> Any:
    assert opcode.arg is not None
    return opcode.arg.reader(stream)


def _set(target: Any, items: list[Any]) -> None:
    # Strings only: the hash of deeply nested tuples can take for ever.
    if type(target) is not dict or not all(type(key) is str for key in items[::2]):
        raise InputError("refused a dict with keys other than strings")
    target.update(zip(items[::2], items[1::2], strict=True))


def _storage(persistent_id: Any) -> _Storage:
    match persistent_id:
        case ("storage", _Global(name), str(key), str(), int(size), None) if (
            name in _DTYPES and size >= 0
        ):
            return _Storage(key, np.dtype(_DTYPES[name]), size)
    raise InputError("refused a persistent id that names no storage")


def _called(function: Any, arguments: Any) -> Any:
    match function, arguments:
        case _Global(name), () if name == _DICT:
            return {}
        case _Global(name), (_Storage() as storage, offset, shape, strides, *_) if (
            name == _TENSOR
            and type(shape) is type(strides) is tuple
            and all(type(n) is int for n in (offset, *shape, *strides))
        ):
            return _Tensor(storage, offset, shape, strides)
    raise InputError("refused to call anything but an OrderedDict or a tensor")
