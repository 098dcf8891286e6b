"""No network, and small files of the form in which data sets are published."""

import io
import socket
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="session")
def jpeg():
    """Makes a JPEG file of one gray level, 8 pixels wide and 6 high."""

    def make(level=128):
        file = io.BytesIO()
        Image.new("RGB", (8, 6), (level, level, level)).save(file, "JPEG")
        return file.getvalue()

    return make


@pytest.fixture(scope="session")
def pack():
    """Packs names and contents into an archive, or a folder if there is no suffix."""

    def packed(path, content):
        content = content.items() if isinstance(content, dict) else content
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data in content:
                    archive.writestr(name, data)
        elif path.suffix:
            compression = path.suffix[1:].replace("tgz", "gz").replace("tar", "")
            with tarfile.open(path, f"w:{compression}") as archive:
                for name, data in content:
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        else:
            for name, data in content:
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_bytes(data)
        return path

    return packed


@pytest.fixture
def levels():
    """The gray level of each image, which JPEG keeps to within a few units."""
    return lambda dataset: np.asarray(dataset.images).mean((1, 2, 3))
