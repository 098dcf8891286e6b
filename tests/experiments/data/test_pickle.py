"""Arrays come out of pickles; nothing else does, and nothing is called."""

import os
import pickle

import numpy as np
import pytest

from experiments.data._pickle import read_array
from experiments.errors import InputError


class Hostile:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "array", [np.arange(6, dtype=np.uint8).reshape(2, 3), np.array([1, 2]), np.eye(2)]
)
def test_arrays_come_back(array, protocol):
    if protocol != 4:  # that of the files here
        with pytest.raises(InputError, match="not of protocol 4"):
            read_array(pickle.dumps(array, protocol), "x")
        return
    back = read_array(pickle.dumps(array, protocol), "x")
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


def test_both_names_of_numpys_module_are_known():
    content = pickle.dumps(np.arange(3), 4)
    old = content.replace(b"\x16numpy._core.multiarray", b"\x15numpy.core.multiarray")
    new = content.replace(b"\x15numpy.core.multiarray", b"\x16numpy._core.multiarray")
    for each in (old, new):
        # Frames announce their length, which changed by one byte: drop the frame.
        assert read_array(each[:2] + each[11:], "x").tolist() == [0, 1, 2]


def test_nothing_hostile_is_called(tmp_path):
    victim = tmp_path / "called"
    for hostile in (
        Hostile(os.system, f"touch {victim}"),
        Hostile(eval, f"open({str(victim)!r}, 'w')"),
        Hostile(open, str(victim), "w"),
        Hostile(np.load, str(victim)),
        [np.arange(3), Hostile(os.mkdir, str(victim))],
    ):
        with pytest.raises(InputError, match="x is no pickled array"):
            read_array(pickle.dumps(hostile, 4), "x")
    assert not victim.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"not a pickle", pickle.dumps(np.arange(300), 4)[:-50],
        pickle.dumps([1, 2]), pickle.dumps(np.array(["a"], dtype="O"), 4),
        pickle.dumps(np.array(["a"]), 4), pickle.dumps(np.eye(3, 2).T, 4),
        pickle.dumps(np.array(2.5j), 4), pickle.dumps((np.arange(3), 1), 4),
    ],
)  # fmt: skip
def test_what_is_no_array_of_numbers_is_refused(content):
    with pytest.raises(InputError, match="x is no pickled array"):
        read_array(content, "x")
