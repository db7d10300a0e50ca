"""Segments: what goes in comes out, and nothing else is one."""

from __future__ import annotations

import pytest
import zstandard

from linearized.exceptions import InvalidInput
from linearized.room.segments import MAX_SEGMENT_BYTES, SEGMENT, pack, span, unpack

PDUS = [b'{"n":%d}' % number for number in range(SEGMENT)]


def test_a_segment_holds_its_pdus_byte_for_byte() -> None:
    packed = pack(PDUS)
    assert unpack(packed) == PDUS
    assert zstandard.ZstdDecompressor().decompress(packed) == b"".join(pdu + b"\n" for pdu in PDUS)


def test_the_same_pdus_make_the_same_segment() -> None:
    assert pack(PDUS) == pack(PDUS)


def test_segments_follow_one_another_without_gaps() -> None:
    assert span(0) == (1, SEGMENT)
    assert span(1) == (SEGMENT + 1, 2 * SEGMENT)


@pytest.mark.parametrize("pdus", [[], PDUS[1:], [*PDUS, b"{}"]])
def test_a_segment_has_just_so_many_entries(pdus: list[bytes]) -> None:
    with pytest.raises(ValueError, match="1024"):
        pack(pdus)


def without_size(lines: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(lines)


def test_a_frame_that_does_not_say_its_size_is_read_too() -> None:
    assert unpack(without_size(b"".join(pdu + b"\n" for pdu in PDUS))) == PDUS


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no frame",
        pack(PDUS)[:-1],
        zstandard.compress(b"".join(pdu + b"\n" for pdu in PDUS[1:])),
        zstandard.compress(b"\n".join(PDUS)),
        zstandard.compress(bytes(MAX_SEGMENT_BYTES + 1)),
        without_size(bytes(MAX_SEGMENT_BYTES + 1)),
    ],
    ids=["empty", "garbage", "cut", "short", "without its end", "too large", "too large unsaid"],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        unpack(data)
