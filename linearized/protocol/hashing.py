"""Content hashes, reference hashes, event IDs (draft, Hashes; Events)."""

from __future__ import annotations

import hashlib

from linearized.protocol.base64 import encode_base64, encode_base64url
from linearized.protocol.canonical import JsonObject, canonical_json, encode_checked
from linearized.protocol.redaction import redact
from linearized.protocol.versions import RoomVersion

_ADDED_BY_THE_HUB = frozenset({"hashes", "auth_events", "prev_events"})
"""Not in an LPDU, but for ``hashes.lpdu``."""

_NOT_IN_LPDU = _ADDED_BY_THE_HUB | {"signatures"}
"""Not covered by an LPDU's content hash."""


def lpdu_hash(pdu: JsonObject, version: RoomVersion, *, plain: bool | None = None) -> str:
    """Give the content hash of an LPDU, or of the LPDU inside a PDU (unpadded base64 of SHA-256).

    Here and below, ``plain`` is what ``check_json`` said of ``pdu``, if it has been walked already.

    Raises:
        CanonicalJsonError: ``pdu`` has no canonical form.
    """
    covered = {field: value for field, value in pdu.items() if field not in _NOT_IN_LPDU}
    return _sha256(covered, version, plain)


def lpdu_identity(pdu: JsonObject, version: RoomVersion) -> str:
    """Give what an LPDU and the event a hub makes of it have in common: the hash that the LPDU carries, or,
    in room versions that have none, the one it would carry.

    Raises:
        CanonicalJsonError: ``pdu`` has no canonical form.
    """
    carried = pdu.get("hashes", {}).get("lpdu")
    return str(carried["sha256"]) if carried is not None else lpdu_hash(pdu, version)


def content_hash(pdu: JsonObject, version: RoomVersion, *, plain: bool | None = None) -> str:
    """Give the content hash of a PDU (unpadded base64 of SHA-256); of ``hashes`` it covers ``lpdu``, if
    there.

    Raises:
        CanonicalJsonError: ``pdu`` has no canonical form.
    """
    covered = {field: value for field, value in pdu.items() if field not in {"signatures", "hashes"}}
    hashes = pdu.get("hashes")
    if version.lpdu_hashes and isinstance(hashes, dict) and "lpdu" in hashes:
        covered["hashes"] = {"lpdu": hashes["lpdu"]}
    return _sha256(covered, version, plain)


def lpdu_of(pdu: JsonObject) -> JsonObject:
    """Give the LPDU a participant signed out of the PDU the hub made of it.

    ``auth_events`` and ``prev_events`` go, ``hashes`` is reduced to ``lpdu``, and goes too if there is none.
    Signatures stay as they are.
    """
    lpdu = {field: value for field, value in pdu.items() if field not in _ADDED_BY_THE_HUB}
    if "lpdu" in pdu["hashes"]:
        lpdu["hashes"] = {"lpdu": pdu["hashes"]["lpdu"]}
    return lpdu


def signed_bytes(pdu: JsonObject, version: RoomVersion, *, plain: bool | None = None) -> bytes:
    """Give what servers sign and the reference hash covers: canonical JSON, redacted, without ``signatures``.

    Raises:
        CanonicalJsonError: ``pdu`` has no canonical form.
    """
    redacted = redact(pdu, version)
    redacted.pop("signatures", None)
    return _encode(redacted, version, plain)


def event_id(pdu: JsonObject, version: RoomVersion) -> str:
    """Give an event's ID: ``$`` and its reference hash in URL-safe unpadded base64.

    Raises:
        CanonicalJsonError: ``pdu`` has no canonical form.
    """
    return event_id_of(signed_bytes(pdu, version))


def event_id_of(signed: bytes) -> str:
    """Give the event ID for the bytes ``signed_bytes`` gave."""
    return "$" + encode_base64url(hashlib.sha256(signed).digest())


def _sha256(covered: JsonObject, version: RoomVersion, plain: bool | None) -> str:
    if not version.hashes_unsigned:
        covered.pop("unsigned", None)
    return encode_base64(hashlib.sha256(_encode(covered, version, plain)).digest())


def _encode(value: JsonObject, version: RoomVersion, plain: bool | None) -> bytes:
    if plain is None:
        return canonical_json(value, code_point_order=version.code_point_order)
    return encode_checked(value, plain=plain or version.code_point_order)
