"""The files in a folder, or in an archive (tar, gz, xz, bz2, zip) from elsewhere."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from experiments.errors import InputError

# Photographs do not shrink when packed: CIFAR-10, thumbnails in padded tar blocks, is
# the worst of the sets here, and grows fivefold.
MOST_GROWTH, ALWAYS_ALLOWED = 200, 100 * 2**20
_COMPRESSED = {b"\x1f\x8b": gzip.GzipFile, b"\xfd7": lzma.LZMAFile, b"BZ": bz2.BZ2File}


def names(folder: Path) -> list[str]:
    """Relative names, with ``/``, of the files and, with ``/`` at the end, folders.

    What begins with a dot is left out with all that is under it, and so is
    ``__MACOSX``. Links are followed.

    Raises:
      InputError: if a link leads nowhere or back to where it is, or if a folder cannot
        be read.
    """
    try:
        return list(_walk(folder, "", ()))
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error}") from error


def _walk(folder: Path, within: str, above: tuple) -> Iterator[str]:
    here = folder.stat().st_dev, folder.stat().st_ino
    if here in above:
        raise InputError(f"{folder} is a link to a folder it is in; remove the link")
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if entry.is_dir():
            yield f"{within}{entry.name}/"
            yield from _walk(Path(entry), f"{within}{entry.name}/", (*above, here))
        elif entry.is_file():
            yield within + entry.name
        elif entry.is_symlink():
            raise InputError(f"{entry.path} is a link to nothing; remove the link")


def stamps(path: Path) -> list:
    """Names, and sizes and times of files, which tell in a moment if they changed."""
    if not path.exists():
        raise InputError(f"no such file or folder: {path}")
    inside = names(path) if path.is_dir() else [""]
    stats = {x: (path / x).stat() for x in inside if not x.endswith("/")}
    return [inside, [[x.st_size, x.st_mtime_ns] for x in stats.values()]]


def unpacked(path: Path, scratch: Path) -> Path:
    """The path if it is a folder, else ``scratch`` with what is in the archive.

    Raises:
      InputError: if it is of no known kind, encrypted, damaged or cut short; or unsafe:
        with names that lead out of it, links, devices, or growth without measure.
    """
    if path.is_dir():
        return path
    try:
        scratch.mkdir()
        with path.open("rb") as file:
            head = file.read(2)
        if head == b"PK":
            _unzip(path, scratch)
        else:
            # Buffered, as tarfile steps back by a byte: that would decompress it again.
            raw = _COMPRESSED.get(head, io.FileIO)(path)
            with io.BufferedReader(raw, 2**20) as stream:
                _untar(path, stream, scratch)
    except InputError:
        raise
    except Exception as error:  # zipfile and tarfile raise whatever they meet
        kinds = "an archive (tar, gz, xz, bz2, zip)"
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} cannot be read as {kinds}: {reason}") from error
    return scratch


def _unzip(path: Path, scratch: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        total = 0
        for entry in archive.infolist():
            # Some programs for Windows write backslashes.
            entry.filename = entry.filename.replace("\\", "/")
            total += entry.file_size
            _check(path, entry.filename, total)
            if entry.flag_bits & 1:
                raise InputError(f"{path} is encrypted; unpack it and name the folder")
            archive.extract(entry, scratch)


def _untar(path: Path, stream: io.BufferedReader, scratch: Path) -> None:
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        total = 0
        for member in archive:
            total += member.size
            _check(path, member.name, total)
            if not (member.isreg() or member.isdir()):
                raise InputError(
                    f"{path}: {member.name} is a link or a device, no file"
                )
            archive.extract(member, scratch, filter="data")
    # A tar ends with two blocks of zeros; tarfile stops at a bad header as if it had.
    # It has read the first. Reading on to the end compares the checksum.
    if stream.read(512) != bytes(512):
        raise InputError(f"{path} is damaged: it ends in the middle")
    while stream.read(2**20):
        pass


def _check(path: Path, name: str, total: int) -> None:
    if name.startswith("/") or name[1:2] == ":" or ".." in name.split("/"):
        raise InputError(f"{path} is unsafe: the name {name!r} leads out of it")
    if total > max(ALWAYS_ALLOWED, MOST_GROWTH * path.stat().st_size):
        raise InputError(f"{path} is unsafe: it grows more than {MOST_GROWTH} times")
