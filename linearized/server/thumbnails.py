"""Small pictures of pictures: decoding, scaling and encoding, in bounded memory.

What others uploaded is decoded here, so a picture's size is read before its pixels are, and nothing but the
common formats for photographs and screenshots is tried.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageOps

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF")
# Larger pictures are left alone: decoded, one takes four bytes a pixel. Photographs of telephones have 12 to
# 24 million.
MAX_PIXELS: Final = 32_000_000
# The widths and heights that are made ("the server SHOULD … 32x32 crop, 96x96 crop, 320x240 scale, 640x480
# scale, 800x600 scale"), in both ways: few enough to keep each.
SIZES: Final = ((32, 32), (96, 96), (320, 240), (640, 480), (800, 600))
CROP, SCALE = METHODS = ("crop", "scale")
_QUALITY: Final = 80
_PNG: Final = b"\x89PNG\r\n\x1a\n"

# We look at each size ourselves, before any pixel is decoded; Pillow would warn of some and refuse others.
Image.MAX_IMAGE_PIXELS = None


class NoThumbnail(Exception):  # noqa: N818 - it is no error of ours
    """There can be none: it is no picture that we know."""


class TooManyPixels(NoThumbnail):
    """It has more than ``MAX_PIXELS``."""


@dataclass(frozen=True, slots=True)
class Size:
    """One of ``SIZES``, and one of ``METHODS``: ``crop`` fills it, ``scale`` fits into it."""

    width: int
    height: int
    method: str

    def __str__(self) -> str:
        return f"{self.width}x{self.height}-{self.method}"


def size_for(width: int, height: int, method: str) -> Size:
    """The smallest of ours that is at least as large as what a client asks for; else the largest."""
    for wide, high in SIZES:
        if wide >= width and high >= height:
            return Size(wide, high, method)
    return Size(*SIZES[-1], method)


def thumbnail(data: bytes, size: Size) -> bytes:
    """The first frame of a picture, made smaller, never larger: a PNG if it can be seen through, else a JPEG.
    It holds nothing of what the picture says beside its pixels, such as where it was taken.

    Raises:
        NoThumbnail: it is no picture, or a broken one.
        TooManyPixels: it is one, and too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise TooManyPixels(f"the picture has more than {MAX_PIXELS} pixels")
            # A JPEG is decoded at a fraction of its size where that is enough.
            picture.draft("RGB", (2 * size.width, 2 * size.height))
            return _encoded(_resized(ImageOps.exif_transpose(picture), size))
    except TooManyPixels:
        raise
    # Decoders meet whatever others made, and each has errors of its own for what it does not understand.
    except Exception as error:
        raise NoThumbnail("it is no picture that we can make smaller") from error


def content_type(made: bytes) -> str:
    """Which of the two formats a thumbnail has."""
    return "image/png" if made.startswith(_PNG) else "image/jpeg"


def _resized(picture: Image.Image, size: Size) -> Image.Image:
    transparent = picture.mode in {"RGBA", "LA", "PA"} or "transparency" in picture.info
    made = picture.convert("RGBA" if transparent else "RGB")
    if size.method == CROP and made.width >= size.width and made.height >= size.height:
        return ImageOps.fit(made, (size.width, size.height))
    made.thumbnail((size.width, size.height))
    return made


def _encoded(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    if picture.mode == "RGBA":
        picture.save(out, "PNG", optimize=True)
    else:
        picture.save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()
