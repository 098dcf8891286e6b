"""SHA-256 of files, of arrays, and of what JSON can hold."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np


def of_json(value: Any) -> str:
    """Of a value, whatever the order of the keys in its dicts."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def of_file(path: Path) -> str:
    """Of the content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_arrays(*arrays: np.ndarray) -> str:
    """Of their shapes, dtypes and bytes."""
    total = hashlib.sha256()
    for array in map(np.ascontiguousarray, arrays):
        total.update(f"{array.shape} {array.dtype}".encode())
        total.update(array.tobytes())
    return total.hexdigest()
