"""A NumPy array out of a pickle file, without unpickling it.

Unpickling calls whatever the file names, so a file from elsewhere could run any code.
Here the pickle is taken apart into its opcodes, none of which is carried out: those of
an array have one form, with its shape, its type and its bytes among their arguments.
"""

import pickletools
import re

import numpy as np

from experiments.errors import InputError

_TYPE = re.compile("[buif][1248]")


def read_array(content: bytes, name: str) -> np.ndarray:
    """The array of numbers in a pickle of protocol 4, of whatever shape.

    Raises:
      InputError: if it holds anything else; ``name`` is the file.
    """
    try:
        opcodes = [(code.name, x) for code, x, _ in pickletools.genops(content)]
    except (ValueError, OverflowError) as error:
        raise InputError(f"{name} is no pickled array: {error}") from error
    arguments = [x for code, x in opcodes if x is not None and code != "FRAME"]
    # A type is made with one True; a second one is an array in Fortran's order.
    in_order = [code for code, _ in opcodes].count("NEWTRUE") == 1
    match arguments:
        case [
            4,
            # NumPy 1 and 2 name the module differently; either wrote such files.
            "numpy.core.multiarray" | "numpy._core.multiarray",
            "_reconstruct",
            "numpy",
            "ndarray",
            0,
            b"b",
            1,
            *shape,
            int(),  # where in the memo "numpy" is
            "dtype",
            str(kind),
            3,
            "|" | "<" | ">" as order,
            -1,
            -1,
            0,
            bytes(data),
        ] if in_order and _TYPE.fullmatch(kind):
            try:
                return np.frombuffer(data, order + kind).reshape(shape)
            except (ValueError, TypeError) as error:
                raise InputError(f"{name} is no pickled array: {error}") from error
    raise InputError(f"{name} is no pickled array of numbers, or not of protocol 4")
