"""Content hashes, reference hashes, event IDs (draft, Hashes; Events)."""

from __future__ import annotations

import hashlib

from linearized.protocol.base64 import encode_base64, encode_base64url
from linearized.protocol.canonical import JsonObject, canonical_json
from linearized.protocol.redaction import redact
from linearized.protocol.versions import RoomVersion

_NOT_IN_LPDU = frozenset({"signatures", "hashes", "auth_events", "prev_events"})
"""Not covered by an LPDU's content hash; the last two are the hub's additions and not in an LPDU at all."""


def lpdu_hash(pdu: JsonObject) -> str:
    """Give the content hash of an LPDU, or of the LPDU inside a PDU (unpadded base64 of SHA-256).

    Raises:
        CanonicalJsonError: ``pdu`` has no canonical form.
    """
    return _sha256({field: value for field, value in pdu.items() if field not in _NOT_IN_LPDU})


def content_hash(pdu: JsonObject) -> str:
    """Give the content hash of a PDU (unpadded base64 of SHA-256); of ``hashes`` it covers ``lpdu``, if
    there.

    Raises:
        CanonicalJsonError: ``pdu`` has no canonical form.
    """
    covered = {field: value for field, value in pdu.items() if field not in {"signatures", "hashes"}}
    hashes = pdu.get("hashes")
    if isinstance(hashes, dict) and "lpdu" in hashes:
        covered["hashes"] = {"lpdu": hashes["lpdu"]}
    return _sha256(covered)


def lpdu_of(pdu: JsonObject) -> JsonObject:
    """Give the LPDU a participant signed out of the PDU the hub made of it.

    ``auth_events`` and ``prev_events`` go, ``hashes`` is reduced to ``lpdu``. Signatures stay as they are.
    """
    lpdu = {field: value for field, value in pdu.items() if field not in {"auth_events", "prev_events"}}
    lpdu["hashes"] = {name: value for name, value in pdu["hashes"].items() if name == "lpdu"}
    return lpdu


def signed_bytes(pdu: JsonObject, version: RoomVersion) -> bytes:
    """Give what servers sign and the reference hash covers: canonical JSON, redacted, without ``signatures``.

    Raises:
        CanonicalJsonError: ``pdu`` has no canonical form.
    """
    redacted = redact(pdu, version)
    redacted.pop("signatures", None)
    return canonical_json(redacted)


def event_id(pdu: JsonObject, version: RoomVersion) -> str:
    """Give an event's ID: ``$`` and its reference hash in URL-safe unpadded base64.

    Raises:
        CanonicalJsonError: ``pdu`` has no canonical form.
    """
    return event_id_of(signed_bytes(pdu, version))


def event_id_of(signed: bytes) -> str:
    """Give the event ID for the bytes ``signed_bytes`` gave."""
    return "$" + encode_base64url(hashlib.sha256(signed).digest())


def _sha256(obj: JsonObject) -> str:
    return encode_base64(hashlib.sha256(canonical_json(obj)).digest())
