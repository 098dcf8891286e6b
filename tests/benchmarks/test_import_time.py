"""Importing the library costs hardly more than importing Optax."""

import pytest

from benchmarks.import_time import imported, measured


@pytest.mark.slow
def test_ratio_of_import_times():
    """As measured, with room for a busy machine; the goal is 1.1.

    That nothing but the library's own modules is loaded stands in
    ``tests/package/test_package.py``, which no busy machine can fail.
    """
    row = measured(20)
    assert row["ratio"]["median"] <= 1.15, row


def test_an_import_is_timed_in_a_fresh_process():
    """Of a module that is loaded here, too, and which loads others."""
    seconds, modules = imported("unittest.mock")
    assert 0.001 < seconds < 30
    assert modules > 50
