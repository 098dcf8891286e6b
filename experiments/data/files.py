"""The files in a folder, or in an untrusted archive (tar, gz, xz, bz2, zip)."""

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

# Photographs hardly compress. CIFAR-10, thumbnails in padded tar blocks, is the worst
# case here and grows fivefold when unpacked.
MOST_GROWTH, ALWAYS_ALLOWED = 200, 100 * 2**20
# How the names of archives end, for `stem` alone: their content tells the kind.
_ENDS = {".tar", ".gz", ".tgz", ".xz", ".txz", ".bz2", ".tbz2", ".zip"}
_COMPRESSED = {b"\x1f\x8b": gzip.GzipFile, b"\xfd7": lzma.LZMAFile, b"BZ": bz2.BZ2File}


def stem(path: Path) -> str:
    """The name of a folder, or of an archive without its suffixes."""
    path = Path(os.path.abspath(path))
    if path.is_dir():  # the folders data.v1 and data.v2 are not the same
        return path.name
    while path.suffix.lower() in _ENDS:
        path = path.with_suffix("")
    return path.name


def names(folder: Path) -> list[str]:
    """Relative names of all files and folders, joined by ``/``; folders end in ``/``.

    Leaves out ``__MACOSX`` and names that begin with a dot, with everything below them.
    Follows links.

    Raises:
      InputError: if a link is broken or points to a folder it is in, or if a folder
        cannot be read.
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
            raise InputError(f"{entry.path} is a broken link; remove the link")


def stamps(path: Path) -> list:
    """Names, sizes and times of files, a quick way to see whether they changed."""
    if not path.exists():
        raise InputError(f"no such file or folder: {path}")
    inside = names(path) if path.is_dir() else [""]
    stats = {x: (path / x).stat() for x in inside if not x.endswith("/")}
    return [inside, [[x.st_size, x.st_mtime_ns] for x in stats.values()]]


def unpacked(path: Path, scratch: Path) -> Path:
    """The path if it is a folder; an archive is unpacked into ``scratch``.

    Raises:
      InputError: if the archive is of an unknown kind, encrypted, damaged or truncated;
        or unsafe: names that point outside of it, links, devices, or too much growth.
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
            # Buffered, because tarfile seeks back by a byte, and unbuffered that would
            # decompress the file again from the start.
            raw = _COMPRESSED.get(head, io.FileIO)(path)
            with io.BufferedReader(raw, 2**20) as stream:
                _untar(path, stream, scratch)
    except InputError:
        raise
    except Exception as error:  # zipfile and tarfile raise all kinds of errors
        kinds = "an archive (tar, gz, xz, bz2, zip)"
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} cannot be read as {kinds}: {reason}") from error
    return scratch


def _unzip(path: Path, scratch: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        total = 0
        for entry in archive.infolist():
            # Some Windows programs write backslashes.
            entry.filename = entry.filename.replace("\\", "/")
            total += entry.file_size
            _check(path, entry.filename, total)
            if entry.flag_bits & 1:
                raise InputError(f"{path} is encrypted; unpack it and pass the folder")
            archive.extract(entry, scratch)


def _untar(path: Path, stream: io.BufferedReader, scratch: Path) -> None:
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        total = 0
        for member in archive:
            total += member.size
            _check(path, member.name, total)
            if not (member.isreg() or member.isdir()):
                raise InputError(
                    f"{path}: {member.name} is a link or a device, not a file"
                )
            archive.extract(member, scratch, filter="data")
    # A tar ends with two blocks of zeros, but tarfile also stops quietly at a bad
    # header. It has read the first block, so the second must follow. Reading to the end
    # makes the decompressor verify its checksum.
    if stream.read(512) != bytes(512):
        raise InputError(f"{path} is damaged: it is cut short")
    while stream.read(2**20):
        pass


def _check(path: Path, name: str, total: int) -> None:
    if name.startswith("/") or name[1:2] == ":" or ".." in name.split("/"):
        raise InputError(f"{path} is unsafe: the name {name!r} points outside of it")
    if total > max(ALWAYS_ALLOWED, MOST_GROWTH * path.stat().st_size):
        raise InputError(f"{path} is unsafe: it grows more than {MOST_GROWTH} times")
