"""The vectors of the MLS working group for what this package does itself: lengths and ends of structures."""

from __future__ import annotations

import json

import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.handshake import RatchetTreeOption
from linearized.mimi.mls_framing import walk_mls_message, welcome_message, welcome_struct
from linearized.mimi.tls import MAX_VECTOR_BYTES, Reader, encode_vector
from tests.mimi.support import VECTORS, real_messages, u16, vec

LENGTHS = json.loads((VECTORS / "mls" / "deserialization.json").read_text())["cases"]
LONGEST_ALLOCATED = 1 << 16  # the vectors go up to a gibibyte; beyond this only the header is read


@pytest.mark.parametrize("case", LENGTHS, ids=lambda case: case["vlbytes_header"])
def test_official_lengths_are_read_and_written(case: dict[str, str | int]) -> None:
    header, length = bytes.fromhex(str(case["vlbytes_header"])), int(case["length"])
    assert length <= MAX_VECTOR_BYTES
    if length > LONGEST_ALLOCATED:
        with pytest.raises(MimiDecodeError, match=f"{length} bytes expected, 0 left"):
            Reader(header).vector()
        return
    assert encode_vector(bytes(length)) == header + bytes(length)
    reader = Reader(header + bytes(length) + b"\xff")
    assert reader.vector() == bytes(length)
    assert reader.remaining == 1


def framed(commit: bytes) -> bytes:
    """An MLSMessage(PublicMessage) of a new member with a bare Commit in it."""
    front = u16(1) + u16(1) + vec(b"group") + bytes(8) + b"\x04" + vec() + b"\x03"
    return front + commit + vec(b"signature") + vec(b"confirmation")


@pytest.mark.parametrize("case", real_messages())
def test_an_official_commit_ends_where_it_should(case: dict[str, bytes]) -> None:
    message = framed(case["commit"])
    reader = Reader(message + b"\xff")
    walk_mls_message(reader)
    assert reader.remaining == 1
    for end in range(len(message)):
        with pytest.raises(MimiDecodeError):
            walk_mls_message(Reader(message[:end]))


@pytest.mark.parametrize("case", real_messages())
def test_official_structures_come_out_of_ours_as_they_went_in(case: dict[str, bytes]) -> None:
    assert welcome_message(welcome_struct(case["mls_welcome"])) == case["mls_welcome"]
    option = RatchetTreeOption.full(case["ratchet_tree"])
    assert option.encode() == b"\x01" + case["ratchet_tree"]
    assert RatchetTreeOption.decode(option.encode()).tree == case["ratchet_tree"]
    for name in ("public_message_commit", "private_message", "mls_group_info", "mls_key_package"):
        reader = Reader(b"\x00" + case[name] + b"\x00")
        reader.skip(1)
        start = reader.position
        walk_mls_message(reader)
        assert reader.since(start) == case[name]
