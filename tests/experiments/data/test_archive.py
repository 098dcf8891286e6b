"""Folders and archives: the same files from each, and refusals of what is unsafe."""

import io
import tarfile
import zipfile

import pytest

from experiments.data import _archive
from experiments.errors import InputError

CONTENT = {"a/1.bin": b"one" * 300, "a/2.bin": b"", "b/3.bin": bytes(1024)}
KINDS = ["x", "x.tar", "x.tar.gz", "x.tgz", "x.tar.xz", "x.tar.bz2", "x.zip"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_files(tmp_path, pack, kind):
    path = pack(tmp_path / kind, CONTENT)
    assert _archive.names(path) == list(CONTENT)
    assert dict(_archive.contents(path, CONTENT)) == CONTENT
    assert dict(_archive.contents(path, {"b/3.bin"})) == {"b/3.bin": bytes(1024)}


@pytest.mark.parametrize(
    "name", ["../x.jpg", "a/../../x.jpg", "/etc/x.jpg", "..\\x.jpg", "C:/x.jpg"]
)
@pytest.mark.parametrize("kind", ["x.tar", "x.tar.gz", "x.zip"])
def test_names_that_lead_out_are_refused(tmp_path, pack, kind, name):
    path = pack(tmp_path / kind, {"a/fine.jpg": b"", name: b""})
    with pytest.raises(InputError, match=r"unsafe: the name .* leads out of it"):
        _archive.names(path)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        member = tarfile.TarInfo("a/x.jpg")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(InputError, match=r"'a/x.jpg' is a link or a device"):
        _archive.names(tmp_path / "x.tar")


def test_links_in_a_zip_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        entry = zipfile.ZipInfo("a/x.jpg")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(InputError, match=r"'a/x.jpg' is a link or a device"):
        _archive.names(tmp_path / "x.zip")


@pytest.mark.parametrize("kind", ["x.tar.gz", "x.zip"])
def test_what_grows_without_measure_is_refused(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(_archive, "ALWAYS_ALLOWED", 2**20)
    zeros = bytes(2**22)
    if kind.endswith("zip"):
        with zipfile.ZipFile(tmp_path / kind, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/x.jpg", zeros)
    else:
        with tarfile.open(tmp_path / kind, "w:gz") as archive:
            member = tarfile.TarInfo("a/x.jpg")
            member.size = len(zeros)
            archive.addfile(member, io.BytesIO(zeros))
    with pytest.raises(InputError, match="more than 200 times its size"):
        _archive.names(tmp_path / kind)


@pytest.mark.parametrize("kind", ["x.tar", "x.zip"])
def test_a_file_that_claims_to_be_huge_is_refused(tmp_path, pack, kind, monkeypatch):
    monkeypatch.setattr(_archive, "LARGEST_FILE", 1000)
    path = pack(tmp_path / kind, CONTENT)
    with pytest.raises(InputError, match=r"'b/3.bin' has 1,024 bytes"):
        _archive.names(path)


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("kept", [0.3, 0.5, 0.75])
def test_an_archive_cut_short_is_noticed(tmp_path, pack, kind, kept):
    # Incompressible and past the padding, so that the cut falls into the files.
    noise = {
        f"a/{i}.bin": bytes((i * j * 7919) % 251 for j in range(3000)) for i in range(9)
    }
    path = pack(tmp_path / kind, noise)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(InputError, match=r"cannot be read|is damaged"):
        list(_archive.contents(path, noise))


def test_a_damaged_header_in_a_tar_does_not_pass_for_its_end(tmp_path, pack):
    path = pack(tmp_path / "x.tar", CONTENT)
    whole = bytearray(path.read_bytes())
    second = 512 + 1024  # after one header and 900 bytes, padded
    assert whole[second : second + 7] == b"a/2.bin"
    whole[second + 148 : second + 156] = b"garbage!"
    path.write_bytes(whole)
    with pytest.raises(InputError, match="ends in the middle"):
        _archive.names(path)


def test_a_wrong_checksum_is_noticed(tmp_path, pack):
    path = pack(tmp_path / "x.tar.gz", CONTENT)
    whole = bytearray(path.read_bytes())
    whole[-8] ^= 1
    path.write_bytes(whole)
    with pytest.raises(InputError, match="CRC"):
        _archive.names(path)


def test_unknown_kinds_list_the_known(tmp_path):
    (tmp_path / "x.rar").write_bytes(b"")
    with pytest.raises(InputError, match=r"known: .tar, .tar.gz, .*, .zip"):
        _archive.names(tmp_path / "x.rar")
    with pytest.raises(InputError, match="no such file or folder"):
        _archive.names(tmp_path / "y.tar")
