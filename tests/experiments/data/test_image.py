"""From image files to squares of pixels."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from experiments.data import image
from experiments.data.image import DamagedImage, decode, read_image
from experiments.errors import InputError

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def encoded(array, form="PNG", **options):
    file = io.BytesIO()
    made = array if isinstance(array, Image.Image) else Image.fromarray(array)
    made.save(file, form, **options)
    return file.getvalue()


def test_the_right_size_passes_unchanged(tmp_path):
    (tmp_path / "x").write_bytes(encoded(NOISE))
    for square in (decode(encoded(NOISE), 64), read_image(tmp_path / "x", 64)):
        assert square.dtype == np.uint8
        assert np.array_equal(square, NOISE)


@pytest.mark.parametrize("wide", [True, False])
def test_the_middle_of_the_longer_side_is_kept(wide):
    # Dark, bright, dark: the bright third is the middle square.
    strip = np.repeat(np.uint8([20, 200, 20]), 32)[None, :, None].repeat(32, 0)
    strip = np.repeat(strip, 3, axis=2)
    strip = strip if wide else strip.transpose(1, 0, 2)
    square = decode(encoded(np.ascontiguousarray(strip)), 16)
    assert square.shape == (16, 16, 3)
    assert (square[2:-2, 2:-2] == 200).all()


def test_shrinking_averages_also_where_a_jpeg_is_decoded_at_reduced_size():
    wave = 128 + 100 * np.sin(np.arange(512) * 2 * np.pi / 16)
    photo = np.stack(np.broadcast_arrays(wave[None], wave[:, None], 128), -1)
    photo = photo.astype(np.uint8)
    fast = decode(encoded(photo, "JPEG", quality=95), 96).astype(int)
    exact = decode(encoded(photo), 96).astype(int)
    assert np.abs(fast - exact).mean() < 4
    # Stripes of one pixel vanish; without antialiasing they would alias.
    photo[:, ::2], photo[:, 1::2] = 0, 255
    assert np.ptp(decode(encoded(photo), 100)[2:-2, 2:-2].astype(int)) < 30


def test_a_turned_photograph_is_turned_back():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    assert np.array_equal(decode(encoded(NOISE, exif=exif), 64), np.rot90(NOISE, -1))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_other_modes_become_three_channels(mode):
    made = Image.new("RGB", (6, 6), (255, 255, 255)).convert(mode)
    assert (decode(encoded(made, "JPEG" if mode == "CMYK" else "PNG"), 4) >= 250).all()


def test_colors_of_16_bits_keep_the_upper_8():
    # Pillow writes no such PNG: header, one row of three pixels, end.
    values = np.array([0, 255, 256, 511, 512, 40_000, 65_535, 1, 65_279], ">u2")
    file = b"\x89PNG\r\n\x1a\n"
    for chunk in (
        b"IHDR" + np.array([3, 1], ">u4").tobytes() + bytes([16, 2, 0, 0, 0]),
        b"IDAT" + zlib.compress(b"\0" + values.tobytes()),
        b"IEND",
    ):
        file += (len(chunk) - 4).to_bytes(4, "big") + chunk
        file += zlib.crc32(chunk).to_bytes(4, "big")
    assert (decode(file, 1) == values[3:6] >> 8).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an image in"),
        (b"<html>404</html>", "not an image in"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image in"),
        # Cut short: the words are Pillow's.
        (encoded(NOISE)[:6000], "."),
        (encoded(NOISE, "JPEG")[:-40], "."),
        (encoded(np.full((8, 8), 40_000, np.uint16)), "more than 8 bits"),
        (encoded(np.full((8, 8), 0.5, np.float32), "TIFF"), "more than 8 bits"),
    ],
)
def test_what_is_no_image_says_so(tmp_path, content, message):
    with pytest.raises(DamagedImage, match=message):
        decode(content, 8)
    (tmp_path / "cat.jpg").write_bytes(content)
    with pytest.raises(InputError, match=rf"cat.jpg cannot be read: .*{message}"):
        read_image(tmp_path / "cat.jpg", 8)


def test_bombs_are_refused(monkeypatch):
    monkeypatch.setattr(image, "MOST_PIXELS", 4095)
    with pytest.raises(DamagedImage, match="too large: 64x64 pixels"):
        decode(encoded(NOISE), 4)
