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
    """Makes an image file of one gray level, 8 pixels wide and 6 high."""

    def make(level=128, size=(8, 6), form="JPEG"):
        file = io.BytesIO()
        Image.new("RGB", size, (level, level, level)).save(file, form)
        return file.getvalue()

    return make


@pytest.fixture(scope="session")
def pack():
    """Packs names and contents into an archive, or a folder if there is no suffix."""

    def packed(path, content):
        content = content.items() if isinstance(content, dict) else content
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w") as archive:
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
def pets(jpeg):
    """Four training and two test images; the gray level tells class and image."""
    return {
        f"pets/{split}/{label}/{number}.jpg": jpeg(level + number)
        for split, numbers in (("train", (0, 1)), ("test", (2,)))
        for label, level in (("cat", 50), ("dog", 150))
        for number in numbers
    }


@pytest.fixture
def levels():
    """The gray level of each image, which JPEG keeps to within a few units."""

    def of(dataset):
        return np.asarray(dataset.images).mean((1, 2, 3))

    return of
