"""What a user sees of the package before calling anything: version, names, imports."""

import importlib
import importlib.metadata
import subprocess
import sys

import pytest

import dtnh_jax


def test_version():
    assert importlib.metadata.version("dtnh_jax") == dtnh_jax.__version__


@pytest.mark.parametrize("module", ["dtnh_jax", "dtnh_jax.nnx"])
def test_all_is_sorted_and_there(module):
    found = importlib.import_module(module)
    assert list(found.__all__) == sorted(set(found.__all__))
    for name in found.__all__:
        assert hasattr(found, name), name


def test_importing_loads_nothing_beyond_optax():
    """Neither Flax nor anything of the extras, whose import takes seconds."""
    # A process of its own, as the tests have imported much themselves; from the present
    # folder nothing is to be found.
    code = "import sys, optax; old = {*sys.modules}; import dtnh_jax; "
    code += "print(*{*sys.modules} - old)"
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    more = set(done.stdout.split())
    assert "dtnh_jax" in more
    assert [name for name in more if name.partition(".")[0] != "dtnh_jax"] == []
    assert "dtnh_jax.nnx" not in more
