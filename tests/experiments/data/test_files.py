"""Folders and archives: the same files from each, and refusals of what is unsafe."""

import errno
import os
import tarfile

import pytest

from experiments.data import files
from experiments.errors import InputError

CONTENT = {"a/1.bin": b"one" * 300, "a/2.bin": b"", "b/3.bin": bytes(1024)}
ARCHIVES = ["x.tar", "x.tar.gz", "x.tgz", "x.tar.xz", "x.tar.bz2", "x.zip"]


@pytest.fixture
def unpack(tmp_path):
    return lambda path: files.unpacked(path, tmp_path / "scratch")


@pytest.mark.parametrize("kind", ["x", *ARCHIVES])
def test_every_kind_gives_the_same_files(tmp_path, pack, unpack, kind):
    hidden = {".git/1.bin": b"", "a/._1.bin": b"", "__MACOSX/a/1.bin": b""}
    path = pack(tmp_path / kind, CONTENT | hidden)
    # The content tells the kind, not the name.
    folder = unpack(path.rename(tmp_path / "download"))
    assert files.names(folder) == ["a/", "a/1.bin", "a/2.bin", "b/", "b/3.bin"]
    assert {name: (folder / name).read_bytes() for name in CONTENT} == CONTENT


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_is_named_without_suffixes_and_a_folder_in_full(tmp_path, kind):
    assert files.stem(tmp_path / f"v1.{kind}") == "v1.x"
    (tmp_path / kind).mkdir()
    assert files.stem(tmp_path / kind) == kind


@pytest.mark.parametrize("name", ["../x.jpg", "a/../../x", "/etc/x", "C:/x", "..\\x"])
@pytest.mark.parametrize("kind", ["x.zip", "x.tar"])
def test_names_that_lead_out_are_refused(tmp_path, pack, unpack, kind, name):
    name = name if kind == "x.zip" else name.replace("\\", "/")
    path = pack(tmp_path / kind, {"a/fine.jpg": b"", name: b""})
    with pytest.raises(InputError, match=r"unsafe: the name .* points outside of it"):
        unpack(path)
    assert not (tmp_path / "x.jpg").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, unpack, kind):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        member = tarfile.TarInfo("a/x.jpg")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(InputError, match=r"a/x.jpg is a link or a device"):
        unpack(tmp_path / "x.tar")


@pytest.mark.parametrize("kind", ["x.tar.gz", "x.zip"])
def test_what_grows_without_measure_is_refused(
    tmp_path, pack, unpack, kind, monkeypatch
):
    monkeypatch.setattr(files, "ALWAYS_ALLOWED", 2**20)
    path = pack(tmp_path / kind, {"a/x.jpg": bytes(2**22)})
    with pytest.raises(InputError, match="more than 200 times"):
        unpack(path)
    assert not (tmp_path / "scratch/a/x.jpg").exists()


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("kept", [0.3, 0.75])
def test_an_archive_cut_short_is_noticed(tmp_path, pack, unpack, kind, kept):
    # Incompressible and past the padding, so that the cut falls into the files.
    noise = {
        f"a/{i}.bin": bytes((i * j * 7919) % 251 for j in range(3000)) for i in range(9)
    }
    path = pack(tmp_path / kind, noise)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(InputError, match=r"cannot be read|is damaged"):
        unpack(path)


SECOND = 512 + 1024  # of the headers in the tar: after 900 bytes, padded
CHANGES = {
    "x.tar": (lambda _: SECOND + 148, b"garbage!", "is cut short"),
    "x.tar.gz": (lambda whole: len(whole) - 8, b"0000", "cannot be read as an archive"),
    # The flag that says it is encrypted.
    "x.zip": (lambda whole: whole.index(b"PK\1\2") + 8, b"\1", "is encrypted; unpack"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_changed_bytes_are_noticed(tmp_path, pack, unpack, kind):
    path = pack(tmp_path / kind, CONTENT)
    at, new, message = CHANGES[kind]
    whole = bytearray(path.read_bytes())
    whole[at(whole) : at(whole) + len(new)] = new
    path.write_bytes(whole)
    with pytest.raises(InputError, match=message):
        unpack(path)


def test_backslashes_in_a_zip_are_separators(tmp_path, pack, unpack):
    path = pack(tmp_path / "x.zip", {"a\\b\\1.bin": b"1", "a/2.bin": b"2"})
    assert files.names(unpack(path)) == ["a/", "a/2.bin", "a/b/", "a/b/1.bin"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["x.tar", "x.zip"])
def test_a_name_twice_is_read_once(tmp_path, pack, unpack, kind):
    folder = unpack(pack(tmp_path / kind, [("a/1", b"old"), ("a/1", b"new")]))
    assert files.names(folder) == ["a/", "a/1"]
    assert (folder / "a/1").read_bytes() == b"new"


@pytest.mark.parametrize("content", [b"", b"Rar!\x1a\7", b"<html>"])
def test_what_is_no_archive_names_the_kinds(tmp_path, unpack, content):
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(InputError, match=r"archive \(tar, gz, xz, bz2, zip\)"):
        unpack(tmp_path / "x.tar")


def test_links_are_followed(tmp_path, pack):
    pack(tmp_path / "real", {"1.jpg": b"1"})
    (tmp_path / "root").mkdir()
    (tmp_path / "root/cat").symlink_to("../real")
    (tmp_path / "root/dog").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "root/2.jpg").symlink_to("../real/1.jpg")
    (tmp_path / "link").symlink_to("root")
    expected = ["2.jpg", "cat/", "cat/1.jpg", "dog/", "dog/1.jpg"]
    assert files.names(tmp_path / "link") == expected


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("..", "a folder it is in"),
        ("none", "broken link"),
        ("link", f"cannot be read: .*{os.strerror(errno.ELOOP)}"),
    ],
)
def test_links_that_lead_nowhere_are_refused(tmp_path, pack, target, message):
    pack(tmp_path / "root", {"cat/1.jpg": b"1"})
    (tmp_path / "root/cat/link").symlink_to(target)
    with pytest.raises(InputError, match=message):
        files.names(tmp_path / "root")
