"""Checkpoints: a hub's signed statement of how long a room's log is and what its Merkle root is.

The text format is C2SP's tlog-checkpoint, the signature its signed-note with Ed25519, by the hub's server
signing key. The origin, which is also the key's name, is ``<hub>/rooms/<room ID, percent-encoded>``: a hub
has a log for each of its rooms, and of a room that moved to it the whole log, signed under its own name.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from linearized.exceptions import ProofError, SignatureError
from linearized.protocol.signing import ServerIdentity, verify_bytes
from linearized.room.merkle import HASH_BYTES

MAX_CHECKPOINT_BYTES: Final = 16 * 1024
"""Three lines and sixteen Ed25519 signatures ("MUST accept at least up to 16 signatures") take a quarter."""

MAX_SIZE: Final = 2**53 - 1
"""The largest size that JSON carries beside it without loss."""

_ED25519: Final = b"\x01"
_KEY_HASH_BYTES: Final = 4
_MARK: Final = "\N{EM DASH} "
_TEXT_LINES: Final = 3
_DECIMAL_DIGITS: Final = len(str(MAX_SIZE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint says. ``note`` is its text as signed and with the signatures."""

    origin: str
    size: int
    root: bytes
    note: str


def origin_of(hub: str, room_id: str) -> str:
    """The origin line of a hub's checkpoints of a room."""
    return f"{hub}/rooms/{quote(room_id, safe='')}"


def key_hash(name: str, verify_key: bytes) -> bytes:
    """Signed-note: "key ID = SHA-256(key name || 0x0A || 0x01 || 32-byte Ed25519 public key)[:4]"."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + verify_key).digest()[:_KEY_HASH_BYTES]


def sign_checkpoint(identity: ServerIdentity, room_id: str, *, size: int, root: bytes) -> Checkpoint:
    """Make and sign a checkpoint; the same arguments give the same text."""
    origin = origin_of(identity.name, room_id)
    text = f"{origin}\n{size}\n{_base64(root)}\n"
    signature = key_hash(origin, identity.key.verify_key) + identity.key.sign(text.encode())
    note = f"{text}\n{_MARK}{origin} {_base64(signature)}\n"
    return Checkpoint(origin=origin, size=size, root=root, note=note)


def verify_checkpoint(note: str, *, hub: str, room_id: str, keys: Mapping[str, bytes]) -> Checkpoint:
    """Read a checkpoint and check who signed it.

    Args:
        keys: the hub's raw Ed25519 keys, by whatever name.

    Raises:
        ProofError: it is malformed, or of another room or hub.
        SignatureError: no signature is by one of the keys, or one that is is wrong.
    """
    checkpoint, signed, signatures = _parse(note)
    if checkpoint.origin != origin_of(hub, room_id):
        raise ProofError("the checkpoint is of another log")
    known = {key_hash(checkpoint.origin, key): key for key in keys.values()}
    found = [
        (blob[:_KEY_HASH_BYTES], blob[_KEY_HASH_BYTES:])
        for name, blob in signatures
        if name == checkpoint.origin and blob[:_KEY_HASH_BYTES] in known
    ]
    if not found:
        raise SignatureError(f"the checkpoint has no signature of {hub} by a known key")
    for hashed, signature in found:
        verify_bytes(signed, signature, known[hashed], name=hub)
    return checkpoint


def read_checkpoint(note: str) -> Checkpoint:
    """Read a checkpoint that was verified before it was kept.

    Raises:
        ProofError: it is malformed.
    """
    return _parse(note)[0]


def _parse(note: str) -> tuple[Checkpoint, bytes, list[tuple[str, bytes]]]:
    """The checkpoint, the bytes that are signed, and the signatures as (key name, key hash and signature)."""
    if len(note) > MAX_CHECKPOINT_BYTES:
        raise ProofError(f"a checkpoint has at most {MAX_CHECKPOINT_BYTES} bytes")
    # "Signed notes MUST be valid UTF-8 and MUST NOT contain any ASCII control characters (those below U+0020)
    # other than newline."
    if any(character < " " and character != "\n" for character in note):
        raise ProofError("a checkpoint has no control characters")
    # "the text is separated from the signatures by the last empty line in the note."
    text, separator, rest = note.rpartition("\n\n")
    lines = text.split("\n")
    if not separator or not rest.endswith("\n") or len(lines) < _TEXT_LINES or not all(lines):
        raise ProofError("a checkpoint is three lines, an empty one, and signatures")
    origin, size, root = lines[:_TEXT_LINES]
    # "the ASCII decimal representation of the number of leaves in the tree, with no leading zeroes"
    if not size.isascii() or not size.isdecimal() or len(size) > _DECIMAL_DIGITS or str(int(size)) != size:
        raise ProofError("a checkpoint's second line is its size")
    signatures = [_signature(line) for line in rest[:-1].split("\n")]
    checkpoint = Checkpoint(origin=origin, size=int(size), root=_decode(root), note=note)
    if checkpoint.size > MAX_SIZE or len(checkpoint.root) != HASH_BYTES:
        raise ProofError("a checkpoint's size or root is out of range")
    try:
        return checkpoint, (text + "\n").encode(), signatures
    except UnicodeEncodeError as error:
        raise ProofError("a checkpoint is valid UTF-8") from error


def _signature(line: str) -> tuple[str, bytes]:
    name, space, blob = line.removeprefix(_MARK).partition(" ")
    if not line.startswith(_MARK) or not space or not name:
        raise ProofError("a signature line is an em dash, a name and base64")
    return name, _decode(blob)


def _base64(data: bytes) -> str:
    """With padding: notes use RFC 4648, section 4, as it is."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def _decode(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise ProofError("a checkpoint's values are base64") from error
