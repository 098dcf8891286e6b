"""A .npy file that grows by rows, so that neither memory nor their number limits it."""

from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike


class ArrayFile:
    """Writes an array ``[n, *row_shape]`` row by row; ``numpy.load`` reads it.

    The number of rows stands in the header, which is written again at the end: NumPy
    pads it so that a longer first axis fits in the same place.
    """

    def __init__(self, path: Path, row_shape: tuple[int, ...], dtype: DTypeLike):
        self._file = path.open("wb")
        self._shape, self._dtype, self._rows = row_shape, np.dtype(dtype), 0
        self._write_header()
        self._start = self._file.tell()

    def append(self, row: np.ndarray) -> None:
        """Adds one row, of the shape and dtype that were announced."""
        if row.shape != self._shape or row.dtype != self._dtype:
            raise ValueError(
                f"expected a row {self._dtype} {list(self._shape)}, got {row.dtype} "
                f"{list(row.shape)}"
            )
        self._file.write(row.tobytes())
        self._rows += 1

    def __enter__(self) -> "ArrayFile":
        """For ``with``, which completes and closes the file."""
        return self

    def __exit__(self, *_) -> None:
        """Writes the number of rows."""
        with self._file:
            self._file.seek(0)
            self._write_header()
            assert self._file.tell() == self._start

    def _write_header(self) -> None:
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": (self._rows, *self._shape),
            },
        )
