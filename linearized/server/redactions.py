"""What redactions leave of events for those who read them as Matrix clients.

The log keeps what was said, for who checks it; a redaction in it, once it counts, decides what clients are
shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import user_domain
from linearized.protocol.redaction import redact
from linearized.protocol.versions import get_version
from linearized.server.histories import content_of
from linearized.server.powers import may_redact_others
from linearized.server.soft_failures import shown
from linearized.store.base import EntryRow, Store

# Redactions looked at for one page of events, the oldest first. Users of ours send only those that count, so
# of one event there is hardly ever more than one.
MAX_LOOKED_AT: Final = 2_000


def redactions_of(store: Store, entries: Sequence[EntryRow]) -> dict[str, EntryRow]:
    """What redacted entries of one room were redacted by first, by their event IDs."""
    if not entries:
        return {}
    room_id, by_id = entries[0].room_id, {entry.event_id: entry for entry in entries}
    found: dict[str, EntryRow] = {}
    for event_id, redaction in store.redactions(room_id, list(by_id), limit=MAX_LOOKED_AT):
        if event_id not in found and counts(store, redaction, by_id[event_id]) and shown(store, [redaction]):
            found[event_id] = redaction
    return found


def counts(store: Store, redaction: EntryRow, target: EntryRow) -> bool:
    """Whether a redaction in the log takes effect.

    "1. The power level of the redaction event's sender is greater than or equal to the redact level. 2. The
    domain of the redaction event's sender matches that of the original event's sender." (Room version 3,
    Handling redactions)
    """
    if redaction.seq <= target.seq:
        return False
    if user_domain(redaction.sender) == user_domain(target.sender):
        return True
    return may_redact_others(store, redaction.room_id, redaction.sender, seq=redaction.seq)


def left_of(store: Store, entry: EntryRow) -> JsonObject:
    """What redaction leaves of an entry's event."""
    room = store.room(entry.room_id)
    assert room is not None  # noqa: S101 - it holds the entry
    return redact(orjson.loads(entry.pdu), get_version(room.version))


def told_content(store: Store, entry: EntryRow) -> JsonObject:
    """The content of an entry as clients are told it."""
    _, redacted = store.marked(entry.room_id, [entry.event_id])
    if redacted and redactions_of(store, [entry]):
        content: JsonObject = left_of(store, entry)["content"]
        return content
    return content_of(entry)
