"""The files in a folder or an archive, streamed: nothing is ever unpacked to disk.

Archives come from elsewhere. Names that lead out of the archive, links, devices and
archives that grow without measure are refused, and one that is cut short is noticed.
"""

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from experiments.errors import InputError

# Photographs do not shrink when packed: CIFAR-10, thumbnails in padded tar blocks, is
# the worst of the sets here, and grows fivefold.
MOST_GROWTH, ALWAYS_ALLOWED = 200, 100 * 2**20
# No single photograph of any known set has a tenth of this.
LARGEST_FILE = 256 * 2**20

SUFFIXES: dict[str, Callable[[Path], Any]] = {
    ".tar": io.FileIO,
    ".tar.gz": gzip.GzipFile,
    ".tgz": gzip.GzipFile,
    ".tar.xz": lzma.LZMAFile,
    ".tar.bz2": bz2.BZ2File,
}
_DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError,
    NotImplementedError,
)  # fmt: skip


def names(path: Path) -> list[str]:
    """The names of all files under a folder or in an archive; see ``contents``."""
    with _errors(path):
        return [name for name, _ in _walk(path)]


def contents(path: Path, wanted: Container[str]) -> Iterator[tuple[str, bytes]]:
    """The wanted files under a folder or in an archive (tar, gz, xz, bz2, zip).

    Args:
      path: the folder or the archive.
      wanted: names; they are relative, with ``/``. What is not in it is not read.

    Yields:
      Name and content; folders in sorted order, archives in their own.

    Raises:
      InputError: if there is no such file, it is of no known kind, damaged, cut short,
        or unsafe: a name leads out of it, it holds a link or a device, or it unpacks
        to far more than it is.
    """
    with _errors(path):
        for name, read in _walk(path):
            if name in wanted:
                yield name, read()


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} cannot be read: {reason}") from error


def _walk(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Names, and how to read each; to be called before the next, or not at all."""
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise InputError(f"no such file or folder: {path}")
    return _zip(path) if path.name.endswith(".zip") else _tar(path, _opener(path))


def _folder(path: Path):
    for file in sorted(path.rglob("*")):
        if file.is_file():
            yield file.relative_to(path).as_posix(), file.read_bytes


def _zip(path: Path):
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        _check_growth(path, sum(entry.file_size for entry in entries))
        for entry in entries:
            name = _safe_name(path, entry.filename)
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _not_a_file(path, name)
            if not entry.is_dir():
                _check_size(path, name, entry.file_size)
                yield name, lambda entry=entry: archive.read(entry)


def _tar(path: Path, opener: Callable[[Path], Any]):
    total = 0
    # tarfile seeks back by one byte now and then; in a compressed file that would
    # unpack everything before it again, unless it is still in a buffer.
    with opener(path) as raw:
        stream = io.BufferedReader(raw, 2**20)
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                name = _safe_name(path, member.name)
                total += member.size
                _check_growth(path, total)
                if member.isdir():
                    continue
                if not member.isreg():
                    raise _not_a_file(path, name)
                _check_size(path, name, member.size)
                yield name, lambda member=member: _read(archive, member)
            _check_end(path, stream)


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None  # it is a regular file
    return file.read()


def _check_end(path: Path, stream: IO[bytes]) -> None:
    """A tar ends with two blocks of zeros; tarfile stops at a bad header as if it had.

    Having read the first, tarfile leaves the second to be read here. Reading on to the
    very end makes the decompressor compare its checksum.
    """
    if stream.read(512) != bytes(512):
        raise InputError(f"{path} is damaged: it ends in the middle")
    while stream.read(2**20):
        pass


def _opener(path: Path) -> Callable[[Path], Any]:
    for suffix, opener in SUFFIXES.items():
        if path.name.endswith(suffix):
            return opener
    known = ", ".join([*SUFFIXES, ".zip"])
    raise InputError(f"{path} is neither a folder nor an archive; known: {known}")


def _safe_name(path: Path, name: str) -> str:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or "\\" in name or ":" in name[:2] or ".." in parts:
        raise InputError(f"{path} is unsafe: the name {name!r} leads out of it")
    return "/".join(parts)


def _not_a_file(path: Path, name: str) -> InputError:
    return InputError(f"{path} is unsafe: {name!r} is a link or a device, no file")


def _check_growth(path: Path, size: int) -> None:
    if size > max(ALWAYS_ALLOWED, MOST_GROWTH * path.stat().st_size):
        raise InputError(
            f"{path} is unsafe: it unpacks to more than {MOST_GROWTH} times its size"
        )


def _check_size(path: Path, name: str, size: int) -> None:
    if size > LARGEST_FILE:
        raise InputError(f"{path} is unsafe: {name!r} has {size:,} bytes")
