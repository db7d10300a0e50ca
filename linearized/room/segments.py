"""Segments: sealed runs of a room's log, as files (design, "Bulk history").

A segment is 1,024 neighbouring entries, from a multiple of 1,024 on: the canonical PDUs exactly as signed,
each ended by a line feed (canonical JSON holds none), compressed as one Zstandard frame (RFC 8878). A log
only grows, so a segment once complete never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import zstandard

from linearized.exceptions import InvalidInput
from linearized.protocol.events import MAX_EVENT_BYTES

SEGMENT: Final = 1024
"""Entries in a segment: about a megabyte of ordinary ones, so that what a request costs is spread over many,
and four tiles of the Merkle tree."""

MAX_SEGMENT_BYTES: Final = SEGMENT * (MAX_EVENT_BYTES + 1)
"""The most a segment can come to once unpacked; what claims more is none."""

LEVEL: Final = 6
"""Packed once and read for ever: a few percent smaller than the default for twice its few milliseconds."""

_LINE_END: Final = b"\n"


def span(number: int) -> tuple[int, int]:
    """The sequence numbers of a segment's first and last entry; segments count from 0, entries from 1."""
    return number * SEGMENT + 1, (number + 1) * SEGMENT


def pack(pdus: Sequence[bytes]) -> bytes:
    """Make a segment of canonical PDUs, as many as it takes.

    Raises:
        ValueError: they are more or fewer.
    """
    if len(pdus) != SEGMENT:
        raise ValueError(f"a segment has {SEGMENT} entries, not {len(pdus)}")
    return zstandard.ZstdCompressor(level=LEVEL).compress(b"".join(pdu + _LINE_END for pdu in pdus))


def unpack(data: bytes) -> list[bytes]:
    """The PDUs in a segment, as they are: nothing is checked but their number.

    Raises:
        InvalidInput: it is no segment; costs no more memory than the largest one.
    """
    try:
        size = zstandard.frame_content_size(data)
        if size > MAX_SEGMENT_BYTES:
            raise InvalidInput("the segment is larger than any can be")
        lines = zstandard.ZstdDecompressor().decompress(data, max_output_size=MAX_SEGMENT_BYTES)
    except zstandard.ZstdError as error:
        raise InvalidInput("the segment is not a Zstandard frame") from error
    pdus = lines.split(_LINE_END)
    if pdus.pop() or len(pdus) != SEGMENT:
        raise InvalidInput(f"a segment is {SEGMENT} lines")
    return pdus
