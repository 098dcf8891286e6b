"""From the bytes of an image file to a square of pixels."""

import io

import numpy as np
from PIL import Image, ImageOps

# Pillow only warns above 89 million, which decoded to RGB are 270 MB.
MOST_PIXELS = 2**26


class DamagedImage(ValueError):
    """Not an image, or not one that can be used; the message says why."""


def decode(encoded: bytes, side: int) -> np.ndarray:
    """An image's middle square, at ``side`` x ``side`` pixels.

    The shorter side is resized to ``side`` (bicubic, antialiased), the middle of the
    longer one is kept: both in one step, at fractions of a pixel. Grey images get three
    equal channels, transparency is dropped, and the orientation is as stored: EXIF is
    not looked at, nor is it by TensorFlow's readers.

    Returns:
      uint8 ``[side, side, 3]``.

    Raises:
      DamagedImage: if it cannot be decoded to the end, has more than
        ``MOST_PIXELS`` or more than 8 bits a channel.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise DamagedImage(f"too large: {image.width}x{image.height} pixels")
            # JPEG can be decoded at 1/2, 1/4 or 1/8 of its size: several times as fast,
            # and with twice the pixels that are needed still antialiased well.
            image.draft("RGB", (2 * side, 2 * side))
            if image.mode[0] in "IF":
                raise DamagedImage(f"more than 8 bits a channel (mode {image.mode})")
            square = ImageOps.fit(
                image.convert("RGB"), (side, side), Image.Resampling.BICUBIC
            )
            return np.asarray(square)
    except DamagedImage:
        raise
    except Exception as error:  # Pillow's decoders raise whatever they meet
        raise DamagedImage(str(error) or type(error).__name__) from error
