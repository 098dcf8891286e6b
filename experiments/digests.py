"""SHA-256 of files, arrays and JSON values."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np


def of_json(value: Any) -> str:
    """Digest of a JSON value, independent of the order of dict keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def of_file(path: Path) -> str:
    """Digest of the content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_arrays(*arrays: np.ndarray) -> str:
    """Digest of the shapes, dtypes and bytes of arrays."""
    total = hashlib.sha256()
    for array in map(np.ascontiguousarray, arrays):
        total.update(f"{array.shape} {array.dtype}".encode())
        total.update(array.tobytes())
    return total.hexdigest()
