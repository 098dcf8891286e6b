"""From bytes to squares of pixels."""

import io

import numpy as np
import pytest
from PIL import Image

from experiments.data import _decode
from experiments.data._decode import DamagedImage, decode


def encoded(array, form="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, form, **options)
    return file.getvalue()


def test_the_right_size_passes_unchanged():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    decoded = decode(encoded(pixels), 8)
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, pixels)


@pytest.mark.parametrize("wide", [True, False])
def test_the_middle_of_the_longer_side_is_kept(wide):
    # Dark, bright, dark: the bright third is the middle square.
    strip = np.repeat(np.uint8([20, 200, 20]), 32)[None, :, None].repeat(32, 0)
    strip = np.repeat(strip, 3, axis=2)
    strip = strip if wide else strip.transpose(1, 0, 2)
    square = decode(encoded(np.ascontiguousarray(strip)), 16)
    assert square.shape == (16, 16, 3)
    assert (square[2:-2, 2:-2] == 200).all()


def test_shrinking_averages():
    """Stripes of one pixel vanish; without antialiasing they would alias."""
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(decode(encoded(stripes), 20)[2:-2, 2:-2].astype(int)) < 30


def test_a_large_jpeg_decoded_at_reduced_size_agrees_with_the_whole():
    wave = 128 + 100 * np.sin(np.arange(512) * 2 * np.pi / 16)
    photo = np.stack(np.broadcast_arrays(wave[None], wave[:, None], 128), -1)
    photo = photo.astype(np.uint8)
    fast = decode(encoded(photo, "JPEG", quality=95), 96).astype(int)
    exact = decode(encoded(photo), 96).astype(int)
    assert np.abs(fast - exact).mean() < 4


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_other_modes_become_three_channels(mode):
    file = io.BytesIO()
    image = Image.new("RGB", (6, 6), (255, 255, 255)).convert(mode)
    image.save(file, "JPEG" if mode == "CMYK" else "PNG")
    assert (decode(file.getvalue(), 4) >= 250).all()


def test_what_is_no_image_says_so(jpeg):
    whole = encoded(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    deep = encoded(np.full((8, 8), 40_000, np.uint16))
    for content, message in (
        (b"", "cannot identify"),
        (b"<html>404</html>", "cannot identify"),
        (whole[: len(whole) // 2], "truncated"),
        (jpeg(size=(64, 64))[:-40], "truncated"),
        (deep, "more than 8 bits"),
    ):
        with pytest.raises(DamagedImage, match=message):
            decode(content, 8)


def test_bombs_are_refused(monkeypatch, jpeg):
    monkeypatch.setattr(_decode, "MOST_PIXELS", 47)
    with pytest.raises(DamagedImage, match="too large: 8x6 pixels"):
        decode(jpeg(), 4)
