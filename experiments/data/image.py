"""From an image file to a square of pixels."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from experiments.errors import InputError

Image.init()
_KNOWN = {"JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF", "AVIF"}
FORMATS = sorted(_KNOWN & Image.OPEN.keys())
SUFFIXES = {x for x, form in Image.registered_extensions().items() if form in FORMATS}
# Pillow only warns above 89 million, which decoded to RGB are 270 MB.
MOST_PIXELS = 2**26


class DamagedImage(ValueError):
    """Not an image, or not one that can be used; the message says why."""


def decode(file: Path | bytes, side: int) -> np.ndarray:
    """The middle square of an image, resized to ``side`` x ``side`` pixels.

    The shorter side is resized (bicubic, antialiased), the middle of the longer one is
    kept: both in one step, at fractions of a pixel. Images are turned upright as their
    EXIF data say. Gray images get three equal channels; transparency is dropped. Of
    colors with 16 bits per channel the upper 8 are kept.

    Returns:
      uint8 ``[side, side, 3]``.

    Raises:
      DamagedImage: if it is in none of ``FORMATS``, cannot be decoded to the end, has
        more than ``MOST_PIXELS``, or is gray with more than 8 bits, of which the range
        is unknown.
    """
    try:
        stream = io.BytesIO(file) if isinstance(file, bytes) else file
        with Image.open(stream, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise DamagedImage(f"too large: {image.width}x{image.height} pixels")
            # JPEG can be decoded at 1/2, 1/4 or 1/8 of its size: several times as fast,
            # and with twice the pixels that are needed still antialiased well.
            image.draft("RGB", (2 * side, 2 * side))
            if image.mode[0] in "IF":
                raise DamagedImage(f"gray with more than 8 bits (mode {image.mode})")
            upright = ImageOps.exif_transpose(image).convert("RGB")
            size = (side, side)
            return np.asarray(ImageOps.fit(upright, size, Image.Resampling.BICUBIC))
    except DamagedImage:
        raise
    except UnidentifiedImageError as error:
        raise DamagedImage(f"no image in any of {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's decoders raise whatever they meet
        raise DamagedImage(str(error) or type(error).__name__) from error


def read_image(path: Path, side: int) -> np.ndarray:
    """As ``decode``; raises an ``InputError`` with the path."""
    try:
        return decode(path, side)
    except DamagedImage as error:
        raise InputError(f"{path} cannot be read: {error}") from error
