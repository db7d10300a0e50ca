"""Checkpoints in C2SP's format: what they look like, and what is not one."""

from __future__ import annotations

import base64

import pytest

from linearized.exceptions import InvalidInput, ProofError, SignatureError
from linearized.protocol.signing import verify_bytes
from linearized.room.checkpoint import (
    MAX_CHECKPOINT_BYTES,
    MAX_SIZE,
    key_hash,
    origin_of,
    read_checkpoint,
    sign_checkpoint,
    verify_checkpoint,
)
from tests.room.support import ROOM, A, B

ROOT = bytes(range(32))
ORIGIN = "a.example/rooms/%21clubhouse%3Aa.example"
KEYS = {"ed25519:test": A.key.verify_key}
NOTE = sign_checkpoint(A, ROOM, size=20_852_163, root=ROOT).note


def verify(note: str, keys: dict[str, bytes] | None = None) -> None:
    verify_checkpoint(note, hub="a.example", room_id=ROOM, keys=KEYS if keys is None else keys)


def test_a_checkpoint_is_three_lines_and_a_signature() -> None:
    origin, size, root, empty, signature, end = NOTE.split("\n")
    assert (origin, size, root) == (ORIGIN, "20852163", base64.b64encode(ROOT).decode())
    assert (empty, end) == ("", "")
    dash, name, blob = signature.split(" ")
    assert (dash, name) == ("\N{EM DASH}", ORIGIN)
    decoded = base64.b64decode(blob, validate=True)
    assert decoded[:4] == key_hash(ORIGIN, A.key.verify_key)
    signed = f"{origin}\n{size}\n{root}\n".encode()
    verify_bytes(signed, decoded[4:], A.key.verify_key, name="the hub")


def test_what_was_signed_is_read_back() -> None:
    found = verify_checkpoint(NOTE, hub="a.example", room_id=ROOM, keys=KEYS)
    assert found == sign_checkpoint(A, ROOM, size=20_852_163, root=ROOT) == read_checkpoint(NOTE)


def test_a_key_id_is_computed_as_in_the_note_that_the_format_comes_from() -> None:
    # The example in the documentation of Go's golang.org/x/mod/sumdb/note, where the format was first used.
    name, hashed, key = "PeterNeumann", "c74f20a3", "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    public = base64.b64decode(key)
    assert public[0] == 1
    assert key_hash(name, public[1:]).hex() == hashed
    text = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
    )
    blob = base64.b64decode(
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    )
    assert blob[:4].hex() == hashed
    verify_bytes(text.encode(), blob[4:], public[1:], name=name)


def test_an_origin_is_one_word_whatever_the_room_id() -> None:
    assert (
        origin_of("a.example:8448", "!a+b /é:a.example")
        == "a.example:8448/rooms/%21a%2Bb%20%2F%C3%A9%3Aa.example"
    )


def test_signatures_of_others_beside_the_hubs_do_not_matter() -> None:
    witness = f"\N{EM DASH} witness.example {base64.b64encode(bytes(72)).decode()}\n"
    verify(NOTE + witness)
    by_b = sign_checkpoint(B, ROOM, size=1, root=ROOT).note.split("\n")[-2]
    verify(f"{NOTE}{by_b}\n")


def test_extension_lines_are_signed_and_ignored() -> None:
    text = NOTE.partition("\n\n")[0] + "\nmore\n"
    blob = base64.b64encode(key_hash(ORIGIN, A.key.verify_key) + A.key.sign(text.encode())).decode()
    verify(f"{text}\n\N{EM DASH} {ORIGIN} {blob}\n")
    with pytest.raises(SignatureError):
        verify(NOTE.replace("\n\n", "\nmore\n\n"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("20852163", "20852164"),
        ("\n\n", "\nmore\n\n"),
    ],
)
def test_a_changed_text_is_not_signed(old: str, new: str) -> None:
    with pytest.raises(SignatureError):
        verify(NOTE.replace(old, new, 1))


def test_a_signature_by_no_known_key_or_of_a_wrong_length_is_refused() -> None:
    with pytest.raises(SignatureError):
        verify(NOTE, {})
    with pytest.raises(SignatureError):
        verify(NOTE, {"ed25519:b": B.key.verify_key})
    short = base64.b64encode(key_hash(ORIGIN, A.key.verify_key) + bytes(63)).decode()
    with pytest.raises(SignatureError):
        verify(f"{NOTE.rpartition(' ')[0]} {short}\n")


def test_another_rooms_or_hubs_checkpoint_is_refused() -> None:
    with pytest.raises(ProofError):
        verify_checkpoint(NOTE, hub="a.example", room_id="!other:a.example", keys=KEYS)
    with pytest.raises(ProofError):
        verify_checkpoint(NOTE, hub="b.example", room_id=ROOM, keys=KEYS)


def test_the_empty_log_and_the_longest_have_checkpoints() -> None:
    for size in (0, MAX_SIZE):
        verify(sign_checkpoint(A, ROOM, size=size, root=ROOT).note)


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n\n",
        NOTE[:-1],
        NOTE + "\n",
        NOTE.replace("\n\n", "\n"),
        NOTE.replace("20852163", "020852163"),
        NOTE.replace("20852163", "-1"),
        NOTE.replace("20852163", "٣"),
        NOTE.replace("20852163", str(MAX_SIZE + 1)),
        NOTE.replace("20852163", "9" * 20),
        NOTE.replace("\n20852163", ""),
        NOTE.replace("20852163", ""),
        NOTE.replace(base64.b64encode(ROOT).decode(), base64.b64encode(ROOT[1:]).decode()),
        NOTE.replace(base64.b64encode(ROOT).decode(), "?"),
        NOTE.replace("\N{EM DASH} ", "-- "),
        NOTE.replace(f"\N{EM DASH} {ORIGIN} ", "\N{EM DASH} "),
        NOTE.replace(f"\N{EM DASH} {ORIGIN}", "\N{EM DASH} "),
        NOTE.replace("\n20852163", "\r\n20852163"),
        NOTE.replace("20852163", "20852163\t"),
        NOTE.replace("\n\n", "\n\ud800\n\n"),
        NOTE.replace("\n\n", "\nbell\x07\n\n"),
        NOTE.replace("\n\n", "\n\nbehind an empty line\n\n"),
        NOTE.replace(base64.b64encode(ROOT).decode(), base64.b64encode(ROOT).decode().replace("A", "A!", 1)),
        NOTE + "x AAAA\n",
        NOTE + "\N{EM DASH} x AAAA\n" * (MAX_CHECKPOINT_BYTES // 8),
    ],
)
def test_what_is_no_checkpoint_is_refused(note: str) -> None:
    with pytest.raises(ProofError):
        verify(note)


@pytest.mark.parametrize("at", range(0, len(NOTE), 7))
def test_a_checkpoint_changed_anywhere_is_refused(at: int) -> None:
    changed = NOTE[:at] + ("x" if NOTE[at] != "x" else "y") + NOTE[at + 1 :]
    with pytest.raises(InvalidInput):
        verify(changed)
