"""Decodes image files to squares of pixels."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from experiments.errors import InputError

Image.init()
_KNOWN = {"JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF", "AVIF"}
FORMATS = sorted(_KNOWN & Image.OPEN.keys())
SUFFIXES = {x for x, form in Image.registered_extensions().items() if form in FORMATS}
# Pillow only warns, and only above 89 million pixels, which take 270 MB as RGB.
MOST_PIXELS = 2**26


class DamagedImage(ValueError):
    """Not an image, or an unusable one. The message says why."""


def decode(file: Path | bytes, side: int) -> np.ndarray:
    """The center square of an image, resized to ``side`` x ``side`` pixels.

    Crops to the center of the longer side and resizes (bicubic, antialiased) in one
    step, with subpixel accuracy. Rotates images according to their EXIF data. Gray
    images get three equal channels, transparency is dropped, and colors with 16 bits
    per channel keep the upper 8.

    Returns:
      uint8 ``[side, side, 3]``.

    Raises:
      DamagedImage: if the image is in none of ``FORMATS``, cannot be fully decoded, has
        more than ``MOST_PIXELS``, or is gray with more than 8 bits, whose range is
        unknown.
    """
    try:
        stream = io.BytesIO(file) if isinstance(file, bytes) else file
        with Image.open(stream, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise DamagedImage(f"too large: {image.width}x{image.height} pixels")
            # JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, which is several times
            # as fast. Twice the required pixels are enough for good antialiasing.
            image.draft("RGB", (2 * side, 2 * side))
            if image.mode[0] in "IF":
                raise DamagedImage(f"gray with more than 8 bits (mode {image.mode})")
            upright = ImageOps.exif_transpose(image).convert("RGB")
            size = (side, side)
            return np.asarray(ImageOps.fit(upright, size, Image.Resampling.BICUBIC))
    except DamagedImage:
        raise
    except UnidentifiedImageError as error:
        raise DamagedImage(f"not an image in {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's decoders raise all kinds of errors
        raise DamagedImage(str(error) or type(error).__name__) from error


def read_image(path: Path, side: int) -> np.ndarray:
    """Like ``decode``, but raises an ``InputError`` with the path."""
    try:
        return decode(path, side)
    except DamagedImage as error:
        raise InputError(f"{path} cannot be read: {error}") from error
