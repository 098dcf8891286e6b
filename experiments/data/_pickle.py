"""NumPy arrays out of pickle files, and nothing else.

``pickle.load`` calls whatever the file names, so a file from elsewhere could run any
code. Here it may name only the three things that an array consists of.
"""

import io
import pickle
from typing import Any

import numpy as np

from experiments.errors import InputError

# NumPy 1 and 2 name the module of the first differently; either wrote such files.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"names {module_name}.{global_name}, which is no part of an array"
            ) from None


def read_array(content: bytes, name: str) -> np.ndarray:
    """The numeric array in a pickle, of whatever shape.

    Raises:
      InputError: if it is no pickle, holds anything but one array of numbers, or names
        a function or class that an array does not consist of; ``name`` is the file.
    """
    try:
        array = _ArrayUnpickler(io.BytesIO(content)).load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise InputError(f"{name} is no pickled array: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif":
        raise InputError(f"{name} is no pickled array of numbers: {type(array)}")
    return array
