"""Redaction: the part of an event that signatures and the event ID cover (draft, Event Redactions)."""

from __future__ import annotations

from linearized.protocol.canonical import JsonObject
from linearized.protocol.versions import RoomVersion

_NOTHING: frozenset[str] = frozenset()


def redact(pdu: JsonObject, version: RoomVersion) -> JsonObject:
    """Give the redacted copy of a PDU or LPDU; ``pdu`` is left alone. Redacting twice changes no more."""
    kept = version.kept_fields
    redacted = {field: value for field, value in pdu.items() if field in kept}
    content = redacted.get("content")
    kind = redacted.get("type")
    if isinstance(content, dict) and isinstance(kind, str):
        fields = version.kept_content.get(kind, _NOTHING)
        if fields is not None:
            redacted["content"] = {
                field: _inner(value, version.kept_inner.get((kind, field)))
                for field, value in content.items()
                if field in fields
            }
    return redacted


def _inner(value: object, kept: frozenset[str] | None) -> object:
    if kept is None or not isinstance(value, dict):
        return value
    return {field: inner for field, inner in value.items() if field in kept}
