"""Damaged files lead to an InputError, never to another error, never to a hang."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from readers import READERS, feed  # noqa: E402


@pytest.mark.parametrize("name", READERS)
def test_the_sound_file_is_read(name, tmp_path):
    assert feed(name, READERS[name].valid, tmp_path / "file")


@st.composite
def damaged(draw, valid):
    """A valid file with some bytes changed, added or lost; or any bytes at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 5))] = draw(st.binary(max_size=5))
    return bytes(data)


@pytest.mark.parametrize("name", READERS)
@hypothesis.given(data=st.data())
@hypothesis.settings(
    max_examples=100,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_damaged_files(name, data, tmp_path):
    feed(name, data.draw(damaged(READERS[name].valid)), tmp_path / "file")


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="there is no atheris here"
)
@pytest.mark.parametrize("name", READERS)
def test_guided_by_coverage(name, tmp_path):
    command = [sys.executable, HERE / "guided.py", name, "-runs=10000", "-seed=1"]
    # What is imported takes 2.5 GB here; what a reader may take comes on top.
    command += ["-rss_limit_mb=4096", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run([*command, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done 10000 runs" in done.stderr
