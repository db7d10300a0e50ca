from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
import trio

from bridges.matrix.ciphers import FileOpener, FileSealer, PartOpener, PartSealer, through, whole
from bridges.matrix.media import download_url
from linearized.client import UntrustedAnswer
from linearized.mimi.content import ExternalPart

PICTURE = b"\x89PNG not really"
KEY, NONCE = b"k" * 16, b"n" * 12
SEALED = whole(PartSealer(key=KEY, nonce=NONCE), PICTURE)
PART = ExternalPart(
    content_type="image/png",
    url=download_url("mxc://a.example/abc"),
    enc_alg=1,
    key=KEY,
    nonce=NONCE,
    content_hash=sha256(SEALED).digest(),
)


def test_a_parts_file_comes_back_as_it_was() -> None:
    assert PICTURE not in SEALED
    assert whole(PartOpener(PART), SEALED) == PICTURE
    assert whole(PartOpener(ExternalPart(content_type="a/b", url="x")), b"x") == b"x"


def test_a_part_says_what_the_file_is() -> None:
    sealer = PartSealer(key=KEY, nonce=NONCE)
    assert len(whole(sealer, PICTURE)) == len(PICTURE) + sealer.growth
    assert (sealer.size, sealer.content_hash) == (len(PICTURE), PART.content_hash)


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (SEALED[:-1] + b"x", PART),
        (SEALED[:-1] + b"x", replace(PART, content_hash=b"")),
        (SEALED, replace(PART, key=b"x" * 16)),
        (SEALED, replace(PART, key=b"short")),
        (SEALED, replace(PART, nonce=b"x" * 12)),
        (SEALED, replace(PART, aad=b"x")),
        (SEALED, replace(PART, enc_alg=30)),
        (SEALED, replace(PART, hash_alg=8)),
        (SEALED[:15], replace(PART, content_hash=b"")),
        (b"", PART),
    ],
)
def test_another_file_or_key_is_refused(data: bytes, part: ExternalPart) -> None:
    with pytest.raises(UntrustedAnswer):
        whole(PartOpener(part), data)


def bytes_of(size: int) -> bytes:
    return bytes(range(255, 255 - size, -1))


def test_an_encrypted_rooms_file_comes_back_as_it_was() -> None:
    sealer = FileSealer(bytes_of)
    sealed = whole(sealer, PICTURE)
    file = sealer.file
    assert PICTURE not in sealed
    assert whole(FileOpener(file), sealed) == PICTURE
    assert (file["v"], file["key"]["alg"], file["key"]["kty"]) == ("v2", "A256CTR", "oct")
    # The key is in the alphabet for URLs, and nothing is padded.
    assert not set("+/=") & set(file["key"]["k"])
    assert "=" not in file["iv"] + file["hashes"]["sha256"]


def test_a_file_encrypted_elsewhere_opens() -> None:
    """Made with `openssl enc -aes-256-ctr`: the key is 32 bytes of 1, the counter block 8 of 2 and 8 of 0."""
    file = {
        "v": "v2",
        "key": {"alg": "A256CTR", "k": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"},
        "iv": "AgICAgICAgIAAAAAAAAAAA",
        "hashes": {"sha256": "xvxSQ8nEMETi2JPWqm5Htk6HE6v1Ur2d1hAhXwa54uM"},
    }
    assert whole(FileOpener(file), bytes.fromhex("f2bb68db3ae6db3789")) == b"a picture"


@pytest.mark.parametrize(
    "change",
    [
        {"v": "v1"},
        {"key": None},
        {"key": {"alg": "A128CTR", "k": "AAAA"}},
        {"key": {"alg": "A256CTR", "k": "AAAA"}},
        {"key": {"alg": "A256CTR", "k": 5}},
        {"iv": "AAAA"},
        {"iv": "A"},
        {"hashes": {}},
        {"hashes": None},
        {"hashes": {"sha256": "A" * 43}},
    ],
)
def test_another_file_or_key_of_an_encrypted_room_is_refused(change: dict[str, Any]) -> None:
    sealer = FileSealer(bytes_of)
    sealed = whole(sealer, PICTURE)
    file = sealer.file
    with pytest.raises(UntrustedAnswer):
        whole(FileOpener({**file, **change}), sealed)
    with pytest.raises(UntrustedAnswer):
        whole(FileOpener(file), sealed + b"x")


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        await trio.lowlevel.checkpoint()
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 7, 16, 17, 1000])
async def test_a_file_in_pieces_becomes_what_it_becomes_whole(size: int) -> None:
    data = bytes(range(256)) * 3
    to_room, to_part = FileSealer(bytes_of), PartSealer(key=KEY, nonce=NONCE)
    stored = b"".join([piece async for piece in through(pieces(data, size), [to_room])])
    assert stored == whole(FileSealer(bytes_of), data)
    across = through(pieces(stored, size), [FileOpener(to_room.file), to_part])
    sealed = b"".join([piece async for piece in across])
    assert sealed == whole(PartSealer(key=KEY, nonce=NONCE), data)
    part = replace(PART, content_hash=to_part.content_hash)
    back = through(pieces(sealed, size), [PartOpener(part), FileSealer(bytes_of)])
    assert b"".join([piece async for piece in back]) == stored


@pytest.mark.parametrize("size", [1, 16, 1000])
async def test_the_end_of_a_file_that_is_false_never_comes(size: int) -> None:
    sealed = whole(PartSealer(key=KEY, nonce=NONCE), bytes(500))
    part = replace(PART, content_hash=b"")
    got: list[bytes] = []

    async def take() -> None:
        async for piece in through(pieces(sealed[:-1] + b"x", size), [PartOpener(part)]):
            got.append(piece)

    with pytest.raises(UntrustedAnswer):
        await take()
    assert sum(map(len, got)) < len(sealed) - 16


async def test_no_more_of_a_file_is_read_than_is_passed_on() -> None:
    read = passed = 0
    most = 0

    async def source() -> AsyncGenerator[bytes, None]:
        nonlocal read, most
        for _ in range(100):
            read += 1000
            most = max(most, read - passed)
            yield bytes(1000)

    async for piece in through(source(), [FileSealer(bytes_of), PartSealer(key=KEY, nonce=NONCE)]):
        passed += len(piece)
    assert passed == 100 * 1000 + 16
    assert most <= 3 * 1000
