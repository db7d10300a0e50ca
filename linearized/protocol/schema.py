"""The schema of PDUs and LPDUs, without looking into ``content`` (draft, Events; Linearized PDU).

``schemas/events/pdu.json`` and ``lpdu.json`` say the same in JSON Schema; a test holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from linearized.exceptions import EventFormatError
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import is_event_id, is_room_id, is_server_name, is_user_id
from linearized.protocol.versions import RoomVersion

MAX_TYPE_CHARS = 255
MAX_STATE_KEY_CHARS = 255
"""Draft: "This MUST NOT exceed 255 characters", for ``type`` and ``state_key``."""

MAX_FIELD_BYTES = 255
"""The same in room versions that count bytes, for ``room_id`` and ``sender`` too."""

MAX_EVENT_REFERENCES = 20
"""Entries of ``auth_events`` and ``prev_events``. Selection gives at most five, a linear log has one previous
event; twenty is Matrix's bound for the interconnection the draft foresees."""

MAX_SOURCE_ID_CHARS = 255
"""A foreign event ID in ``provenance``; Matrix's own bound."""

_SHA256 = re.compile(r"[A-Za-z0-9_-]{43}")


def check_pdu_schema(pdu: JsonObject, version: RoomVersion) -> None:
    """Check a whole PDU's fields.

    Raises:
        EventFormatError: a field is missing or not what it must be; the text names it.
    """
    _check_common(pdu, version)
    check_hub_fields(pdu, version)


def check_hub_fields(pdu: JsonObject, version: RoomVersion) -> None:
    """Check what a hub adds to an LPDU that passed ``check_lpdu_schema``, or what depends on it.

    Raises:
        EventFormatError: as for ``check_pdu_schema``.
    """
    hashes = pdu.get("hashes")
    if not isinstance(hashes, dict):
        raise EventFormatError("hashes is missing or malformed")
    _require(isinstance(hashes.get("sha256"), str), "hashes.sha256")
    _check_references(pdu, "auth_events")
    _check_references(pdu, "prev_events")
    # "Events which specify a hub_server MUST additionally contain an lpdu hash. All other events MUST NOT
    # contain lpdu hashes."
    if "hub_server" in pdu and version.lpdu_hashes:
        _check_lpdu_hash(hashes)
    else:
        _require("lpdu" not in hashes, "hashes.lpdu")
    # "Events which specify a hub_server are expected to have exactly 1 entry in this array, while other
    # events MAY have 1 or more entries." Only the create event has none.
    is_first = pdu["type"] == "m.room.create" and not pdu["prev_events"]
    if "hub_server" in pdu:
        _require(len(pdu["prev_events"]) == 1 or (is_first and version.hub_server_always), "prev_events")
    else:
        _require(bool(pdu["prev_events"]) or is_first, "prev_events")
    if "provenance" in pdu:
        _require(version.vouched_events and "hub_server" in pdu, "provenance")
        _check_provenance(pdu["provenance"])


def check_lpdu_schema(lpdu: JsonObject, version: RoomVersion) -> None:
    """Check the fields of what a participant sends its hub.

    Raises:
        EventFormatError: a field is missing, not what it must be, or not a participant's to set.
    """
    _check_common(lpdu, version)
    _require("hub_server" in lpdu, "hub_server")
    # "The participant server MUST NOT populate the following fields on events (LPDUs) they are sending to the
    # hub:" auth_events, prev_events, hashes (except hashes.lpdu). Provenance is a hub's statement, never a
    # participant's.
    for field in ("auth_events", "prev_events", "provenance"):
        _require(field not in lpdu, field)
    if not version.lpdu_hashes:
        _require("hashes" not in lpdu, "hashes")
        return
    hashes = lpdu.get("hashes")
    if not isinstance(hashes, dict) or hashes.keys() != {"lpdu"}:
        raise EventFormatError("hashes is missing or malformed")
    _check_lpdu_hash(hashes)


def _check_common(pdu: JsonObject, version: RoomVersion) -> None:
    for field, matches in _COMMON.items():
        if not matches(pdu.get(field)):
            raise _refused(field)
    if "state_key" in pdu:
        state_key = pdu["state_key"]
        _require(isinstance(state_key, str) and len(state_key) <= MAX_STATE_KEY_CHARS, "state_key")
    if version.limits_in_bytes:
        # Matrix, Size limits: "sender MUST NOT exceed 255 bytes", and so room_id, state_key and type.
        for field in ("room_id", "type", "sender", "state_key"):
            text = str(pdu.get(field, ""))
            if len(text) > MAX_FIELD_BYTES // 4:  # a character has four bytes at most
                _require(len(text.encode("utf-8", "surrogatepass")) <= MAX_FIELD_BYTES, field)
    if "hub_server" in pdu:
        _require(is_server_name(pdu["hub_server"]), "hub_server")


def _is_type(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TYPE_CHARS


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_signatures(value: object) -> bool:
    return isinstance(value, dict) and all(map(_are_signatures, value.values()))


def _are_signatures(by_key: object) -> bool:
    return isinstance(by_key, dict) and all(map(_is_text, by_key.values()))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_COMMON: dict[str, Callable[[object], bool]] = {
    "room_id": is_room_id,
    "type": _is_type,
    "sender": is_user_id,
    "origin_server_ts": _is_integer,
    "content": _is_object,
    "signatures": _is_signatures,
}


def _check_references(pdu: JsonObject, field: str) -> None:
    value = pdu.get(field)
    _require(
        isinstance(value, list) and len(value) <= MAX_EVENT_REFERENCES and all(map(is_event_id, value)),
        field,
    )


def _check_lpdu_hash(hashes: JsonObject) -> None:
    lpdu = hashes.get("lpdu")
    _require(isinstance(lpdu, dict) and isinstance(lpdu.get("sha256"), str), "hashes.lpdu")


def _check_provenance(provenance: object) -> None:
    if not isinstance(provenance, dict) or not is_server_name(provenance.get("provider")):
        raise EventFormatError("provenance.provider is missing or malformed")
    match provenance.get("protocol"):
        case "matrix":
            source = provenance.get("event_id")
            _require(
                isinstance(source, str) and 0 < len(source) <= MAX_SOURCE_ID_CHARS, "provenance.event_id"
            )
            _require(provenance.get("imported", True) is True, "provenance.imported")
            allowed = {"protocol", "provider", "event_id", "imported"}
        case "mimi":
            digest = provenance.get("mls")
            _require(isinstance(digest, str) and _SHA256.fullmatch(digest) is not None, "provenance.mls")
            allowed = {"protocol", "provider", "mls"}
        case _:
            raise EventFormatError("provenance.protocol is missing or unknown")
    _require(provenance.keys() <= allowed, "provenance")


def _require(condition: bool, field: str) -> None:
    if not condition:
        raise _refused(field)


def _refused(field: str) -> EventFormatError:
    return EventFormatError(f"{field} is missing, malformed or not allowed here")
