"""Folders and archives: the same files from each, and refusals of what is unsafe."""

import tarfile
import zipfile
import zlib

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
    folder = unpack(pack(tmp_path / kind, CONTENT | hidden))
    assert files.names(folder) == ["a/", "a/1.bin", "a/2.bin", "b/", "b/3.bin"]
    assert {name: (folder / name).read_bytes() for name in CONTENT} == CONTENT


def test_the_content_tells_the_kind_not_the_name(tmp_path, pack, unpack):
    path = pack(tmp_path / "x.tar.gz", CONTENT).rename(tmp_path / "download")
    assert "a/1.bin" in files.names(unpack(path))


@pytest.mark.parametrize("name", ["../x.jpg", "a/../../x", "/etc/x", "..\\x", "C:/x"])
@pytest.mark.parametrize("kind", ["x.tar", "x.tar.gz", "x.zip"])
def test_names_that_lead_out_are_refused(tmp_path, pack, unpack, kind, name):
    if name == "..\\x" and kind != "x.zip":
        pytest.skip("an ordinary name there")
    path = pack(tmp_path / kind, {"a/fine.jpg": b"", name: b""})
    with pytest.raises(InputError, match=r"unsafe: the name .* leads out of it"):
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


def test_a_link_in_a_zip_becomes_a_file(tmp_path, unpack):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        entry = zipfile.ZipInfo("a/x.jpg")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    assert not (unpack(tmp_path / "x.zip") / "a/x.jpg").is_symlink()


@pytest.mark.parametrize("kind", ["x.tar.gz", "x.tar.xz", "x.zip"])
def test_what_grows_without_measure_is_refused(tmp_path, unpack, kind, monkeypatch):
    monkeypatch.setattr(files, "ALWAYS_ALLOWED", 2**20)
    (tmp_path / "zeros").write_bytes(bytes(2**22))
    if kind.endswith("zip"):
        with zipfile.ZipFile(tmp_path / kind, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(tmp_path / "zeros", "a/x.jpg")
    else:
        with tarfile.open(tmp_path / kind, f"w:{kind[-2:]}") as archive:
            archive.add(tmp_path / "zeros", "a/x.jpg")
    with pytest.raises(InputError, match="more than 200 times"):
        unpack(tmp_path / kind)
    assert not (tmp_path / "scratch/a/x.jpg").exists()


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("kept", [0.3, 0.5, 0.75])
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


def test_damage_does_not_pass_for_the_end(tmp_path, pack, unpack):
    path = pack(tmp_path / "x.tar", CONTENT)
    whole = bytearray(path.read_bytes())
    second = 512 + 1024  # after one header and 900 bytes, padded
    assert whole[second : second + 7] == b"a/2.bin"
    whole[second + 148 : second + 156] = b"garbage!"
    path.write_bytes(whole)
    with pytest.raises(InputError, match="ends in the middle"):
        unpack(path)


def test_a_wrong_checksum_is_noticed(tmp_path, pack, unpack):
    path = pack(tmp_path / "x.tar.gz", CONTENT)
    whole = bytearray(path.read_bytes())
    whole[-8] ^= 1
    path.write_bytes(whole)
    with pytest.raises(InputError, match="CRC"):
        unpack(path)


def test_an_encrypted_zip_says_so(tmp_path, pack, unpack):
    path = pack(tmp_path / "x.zip", CONTENT)
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(whole)
    with pytest.raises(InputError, match="is encrypted; unpack it"):
        unpack(path)


def test_backslashes_in_a_zip_are_separators(tmp_path, pack, unpack):
    path = pack(tmp_path / "x.zip", {"a\\b\\1.bin": b"1", "a/2.bin": b"2"})
    assert files.names(unpack(path)) == ["a/", "a/2.bin", "a/b/", "a/b/1.bin"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["x.tar", "x.tar.xz", "x.zip"])
def test_a_name_twice_is_read_once(tmp_path, pack, unpack, kind):
    folder = unpack(pack(tmp_path / kind, [("a/1", b"old"), ("a/1", b"new")]))
    assert files.names(folder) == ["a/", "a/1"]
    assert (folder / "a/1").read_bytes() == b"new"


@pytest.mark.parametrize("content", [b"", b"Rar!\x1a\7", zlib.compress(b"x" * 999)])
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
    [("..", "a folder it is in"), ("none", "to nothing"), ("link", "symbolic links")],
)
def test_links_that_lead_nowhere_are_refused(tmp_path, pack, target, message):
    pack(tmp_path / "root", {"cat/1.jpg": b"1"})
    (tmp_path / "root/cat/link").symlink_to(target)
    with pytest.raises(InputError, match=message):
        files.names(tmp_path / "root")


def test_stamps_change_with_the_files(tmp_path, pack):
    folder = pack(tmp_path / "x", CONTENT)
    first = files.stamps(folder)
    assert files.stamps(folder) == first
    (folder / "c").mkdir()
    assert files.stamps(folder) != first
    with pytest.raises(InputError, match="no such file or folder"):
        files.stamps(tmp_path / "y")
