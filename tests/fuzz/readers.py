"""The readers of files, each with a file that it reads, for the two fuzzing tests.

Whatever the bytes, a reader gives a value or raises an ``InputError``.
"""

import base64
import dataclasses
import io
import json
import pickle
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save

from experiments import cells
from experiments.data import files, read_image
from experiments.data.installed import payload
from experiments.errors import InputError
from experiments.finetune import saved
from experiments.networks import weight_files
from experiments.study import Place, Setting


@dataclasses.dataclass(frozen=True)
class Reader:
    """A valid file's bytes, and what reads a file; it raises nothing but InputError."""

    valid: bytes
    read: Callable[[Path], object]


def _packed(name):
    """An archive with two files."""
    with tempfile.TemporaryDirectory() as folder:
        for file in ("a/1.bin", "b/2.bin"):
            place = Path(folder) / "files" / file
            place.parent.mkdir(parents=True)
            place.write_bytes(file.encode())
        form = {"x.tar": "tar", "x.tar.gz": "gztar", "x.zip": "zip"}[name]
        made = shutil.make_archive(f"{folder}/x", form, f"{folder}/files")
        return Path(made).read_bytes()


def _unpack(path):
    with tempfile.TemporaryDirectory() as folder:
        return files.names(files.unpacked(path, Path(folder) / "scratch"))


def _image():
    file = io.BytesIO()
    Image.new("RGB", (6, 5), (1, 2, 3)).save(file, "PNG")
    return file.getvalue()


_HEADER = {"record": "about", "config": {"tasks": [["a", "b"]], "seeds": 2}}
_SETTING = Setting(Place("a", "b", "sgd", 10), 0.01, "plain", None)
_CELL = {"record": "cell", **_SETTING.record(), "accuracy": [1.0, 2.0]}
_ABOUT = {"network": "resnet18", "classes": ["a", "b"]}
_ABOUT["preprocessing"] = {"resize": 147, "crop": 128}
# A state_dict of one float32 array "w" of shape (2, 3), as PyTorch 1.5 wrote it.
_STATE_DICT = base64.b64decode(
    "gAKKCmz8nEb5IGqoUBkugAJN6QMugAJ9cQAoWA0AAABsaXR0bGVfZW5kaWFucQGIWBAAAABwcm90b2"
    "NvbF92ZXJzaW9ucQJN6QNYCgAAAHR5cGVfc2l6ZXNxA31xBFgDAAAAaW50cQVLBHN1LoACfXEAWAEA"
    "AAB3cQFjdG9yY2guX3V0aWxzCl9yZWJ1aWxkX3RlbnNvcl92MgpxAigoWAcAAABzdG9yYWdlcQNjdG"
    "9yY2gKRmxvYXRTdG9yYWdlCnEEWAEAAAA3cQVYAwAAAGNwdXEGSwZOdHEHUUsASwJLA4ZxCEsDSwGG"
    "cQmJY2NvbGxlY3Rpb25zCk9yZGVyZWREaWN0CnEKKVJxC3RxDFJxDXMugAJdcQBYAQAAADdxAWEuBg"
    "AAAAAAAAAAAAAAAACAPwAAAEAAAEBAAACAQAAAoEA="
)


def _zipped():
    """The same state_dict as PyTorch writes it since 1.6."""
    state_dict = (
        b"\x80\x02}X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch"
        b"\nFloatStorage\nX\1\0\0\x007X\3\0\0\0cpuK\6tQK\0K\2K\3\x86K\3K\1\x86\x89}tRs."
    )
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("w/data.pkl", state_dict)
        archive.writestr("w/data/7", np.arange(6, dtype=np.float32).tobytes())
    return stream.getvalue()


READERS = {
    "cells": Reader(
        "".join(json.dumps(line) + "\n" for line in (_HEADER, _CELL)).encode(),
        cells.read,
    ),
    "array": Reader(
        pickle.dumps(np.arange(6, dtype=np.uint8).reshape(2, 3), 4),
        lambda path: payload(path.read_bytes()),
    ),
    "tar": Reader(_packed("x.tar"), _unpack),
    "tar.gz": Reader(_packed("x.tar.gz"), _unpack),
    "zip": Reader(_packed("x.zip"), _unpack),
    "image": Reader(_image(), lambda path: read_image(path, 4)),
    "network": Reader(json.dumps(_ABOUT).encode(), saved.described),
    "weights": Reader(_STATE_DICT, weight_files.read),
    "zipped-weights": Reader(_zipped(), weight_files.read),
    "safetensors": Reader(save({"w": np.ones((2, 3), np.float16)}), weight_files.read),
}


def feed(name, data, path):
    """Lets a reader read ``data``; returns whether it accepted it."""
    path.write_bytes(data)
    try:
        READERS[name].read(path)
    except InputError:
        return False
    return True
