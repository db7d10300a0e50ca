"""Entries that say that they belong to another one (``m.relates_to``) or redact it, as the store has them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from linearized.store.base import EntryRow

THREAD: Final = "m.thread"
REPLACE: Final = "m.replace"
REFERENCE: Final = "m.reference"
# What has no such bytes has no relation, and is not parsed. Canonical JSON escapes none of these characters.
_MARK: Final = b'"m.relates_to"'
REDACTION: Final = "m.room.redaction"
_REDACTION_MARK: Final = b'"m.room.redaction"'
# How redactions stand among the relations; no relation is of this kind.
REDACTS: Final = ""
# "event_id", "rel_type": no longer than identifiers and event types are.
_MAX_BYTES: Final = 255


def relation_of(pdu: bytes) -> tuple[str, str] | None:
    """The event that an event relates to, and how; None if it relates to none."""
    if _MARK not in pdu:
        return None
    try:
        relation = json.loads(pdu)["content"]["m.relates_to"]
        event_id, rel_type = relation["event_id"], relation["rel_type"]
    except (KeyError, TypeError, ValueError):
        return None
    if not (_fits(event_id) and _fits(rel_type) and rel_type != REDACTS):
        return None
    return event_id, rel_type


def redacted_by(pdu: bytes) -> str | None:
    """The event that an event is a redaction of, which it may not be allowed to be; None if it is none."""
    if _REDACTION_MARK not in pdu:
        return None
    try:
        event = json.loads(pdu)
        kind, event_id, is_state = event["type"], event["content"]["redacts"], "state_key" in event
    except (KeyError, TypeError, ValueError):
        return None
    return event_id if kind == REDACTION and not is_state and _fits(event_id) else None


def _fits(value: object) -> bool:
    return isinstance(value, str) and len(value.encode(errors="surrogatepass")) <= _MAX_BYTES


class RelationStore(Protocol):
    """The part of ``Store`` for these. Each look-up costs what it finds, whatever else is in the room."""

    def related(
        self, room_id: str, event_id: str, *, after: int, before: int, newest_first: bool, limit: int
    ) -> list[EntryRow]:
        """Entries of a room that relate to an event, ``after < seq < before``. Redactions do not."""
        ...

    def related_to_any(
        self, room_id: str, event_ids: Sequence[str], *, before: int, limit: int
    ) -> list[EntryRow]:
        """Entries of a room, ``seq < before``, that relate to one of the events, newest first."""
        ...

    def marked(self, room_id: str, event_ids: Sequence[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Those of the events to which entries of the room relate, and those that it has redactions of."""
        ...

    def redactions(self, room_id: str, event_ids: Sequence[str], *, limit: int) -> list[tuple[str, EntryRow]]:
        """Redactions in a room of these events, each with the event's ID, the oldest first."""
        ...

    def relation_count(self, room_id: str, event_id: str, rel_type: str, *, last: int) -> int:
        """How many of the entries up to ``last`` relate to an event in this way."""
        ...

    def threads(self, room_id: str, *, before: int, last: int, limit: int) -> list[tuple[str, int]]:
        """The events that threads start with, each with the ``seq`` of the thread's latest entry up to
        ``last``; those whose latest has ``seq < before``, the latest first.
        """
        ...
