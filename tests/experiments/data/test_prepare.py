"""The command: what it prints, and that it prints the same the second time."""

import io

import pytest
from rich.console import Console

from experiments import digests
from experiments.data.prepare import Data, run
from experiments.errors import InputError


@pytest.fixture
def printed():
    def of(config):
        file = io.StringIO()
        run(config, Console(file=file, width=100))
        return file.getvalue()

    return of


def test_it_says_what_was_prepared(tmp_path, pack, pets, printed):
    archive = pack(tmp_path / "pets.tar.gz", pets)
    config = Data(f"folder:{archive}", side=4, folder=tmp_path / "data", quiet=True)
    first = printed(config)
    assert "pets, 4x4 pixels" in first
    rows = [line.split() for line in first.splitlines()]
    assert ["│", "train", "│", "4", "│", "2", "│", "2", "to", "2", "│", "192"] in [
        row[:12] for row in rows
    ]
    assert f"sha256: {digests.of_file(archive)}" in first
    assert f"path: {archive}" in first
    assert "images left out as damaged: 0" in first
    assert printed(config) == first


def test_progress_is_a_line_where_there_is_no_terminal(tmp_path, pack, pets, printed):
    archive = pack(tmp_path / "pets.zip", pets)
    config = Data(f"folder:{archive}", side=4, folder=tmp_path / "data")
    assert printed(config).startswith(f"folder:{archive} (")


def test_errors_come_before_any_output(tmp_path, printed):
    with pytest.raises(InputError, match="no such file or folder"):
        printed(Data("folder:/none", folder=tmp_path, quiet=True))
