"""Making pictures smaller, and what is no picture."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image

from linearized.server.thumbnails import (
    MAX_PIXELS,
    NoThumbnail,
    Size,
    TooManyPixels,
    content_type,
    size_for,
    thumbnail,
)


def picture(width: int, height: int, kind: str = "PNG", mode: str = "RGB", **how: Any) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (width, height)).save(out, kind, **how)
    return out.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is that large, in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def measured(made: bytes) -> tuple[str | None, tuple[int, int]]:
    with Image.open(io.BytesIO(made)) as opened:
        return opened.format, opened.size


@pytest.mark.parametrize(
    ("asked", "made"),
    [((1, 1), (32, 32)), ((33, 10), (96, 96)), ((96, 97), (320, 240)), ((800, 600), (800, 600)),
     ((5000, 1), (800, 600))],
)  # fmt: skip
def test_a_size_is_the_next_larger_of_ours(asked: tuple[int, int], made: tuple[int, int]) -> None:
    assert size_for(*asked, "crop") == Size(*made, "crop")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_every_format_is_made_smaller(kind: str) -> None:
    data = picture(1000, 500, kind)
    assert measured(thumbnail(data, Size(320, 240, "scale"))) == ("JPEG", (320, 160))
    assert measured(thumbnail(data, Size(96, 96, "crop"))) == ("JPEG", (96, 96))


@pytest.mark.parametrize("method", ["crop", "scale"])
def test_a_small_picture_is_not_made_larger(method: str) -> None:
    assert measured(thumbnail(picture(20, 10), Size(96, 96, method)))[1] == (20, 10)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "P", "1", "I;16"])
def test_what_can_be_seen_through_stays_so(mode: str) -> None:
    made = thumbnail(picture(100, 100, mode=mode), Size(32, 32, "crop"))
    assert content_type(made) == ("image/png" if mode in {"RGBA", "LA"} else "image/jpeg")
    assert measured(made)[1] == (32, 32)


def test_only_the_first_frame_is_shown() -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(thumbnail(out.getvalue(), Size(32, 32, "crop")))) as made:
        pixel = made.getpixel((5, 5))
    assert isinstance(pixel, tuple)
    assert pixel[0] > 200


def test_a_picture_stands_upright_and_tells_nothing_beside() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned by a quarter
    exif[0x010F] = "Camera"
    made = thumbnail(picture(400, 200, "JPEG", exif=exif), Size(96, 96, "scale"))
    with Image.open(io.BytesIO(made)) as opened:
        assert (opened.size, dict(opened.getexif())) == ((48, 96), {})


def test_a_picture_of_too_many_pixels_is_refused_before_they_are_decoded() -> None:
    for width, height in ((MAX_PIXELS, 2), (60_000, 60_000)):
        with pytest.raises(TooManyPixels):
            thumbnail(bomb(width, height), Size(32, 32, "crop"))


@pytest.mark.parametrize(
    "data",
    [b"", b"<svg/>", picture(100, 100)[:60], bomb(100, 100), picture(9, 9, "BMP"), picture(9, 9, "TIFF")],
)
def test_what_is_no_picture_has_no_thumbnail(data: bytes) -> None:
    with pytest.raises(NoThumbnail) as caught:
        thumbnail(data, Size(32, 32, "crop"))
    assert not isinstance(caught.value, TooManyPixels)
