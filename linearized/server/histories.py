"""What ``linearized.protocol.visibility`` asks about, read from the store: how a room's history visibility
and a user's membership changed.

Each change costs one look-up by type and state key; the entries between them are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import orjson

from linearized.protocol.canonical import JsonObject
from linearized.protocol.visibility import DEFAULT, VISIBILITY, Change, visibility_of
from linearized.store.base import EntryRow, MembershipRow, Store

# Changes looked back for. Few rooms have more than two; before more than this, history counts as closed.
MAX_CHANGES: Final = 200

MEMBER_TYPE: Final = "m.room.member"


def content_of(entry: EntryRow) -> JsonObject:
    """The content of a stored event."""
    content: JsonObject = orjson.loads(entry.pdu)["content"]
    return content


def membership_of(entry: EntryRow) -> str:
    """The membership an ``m.room.member`` entry sets."""
    value = content_of(entry).get("membership")
    return value if isinstance(value, str) else "leave"


def history_of(store: Store, room_id: str, event_type: str, state_key: str, seq: int) -> Iterator[EntryRow]:
    """What was in force after entry ``seq``, then before that, and so on; at most ``MAX_CHANGES`` entries."""
    for _ in range(MAX_CHANGES):
        entry = store.state_entry(room_id, event_type, state_key, seq=seq)
        if entry is None:
            return
        yield entry
        seq = entry.seq - 1


def visibility_changes(store: Store, room_id: str, seq: int) -> tuple[Change, ...]:
    """How the room's history visibility came to what it is after entry ``seq``, from entry 0 on."""
    found = [
        (entry.seq, visibility_of(content_of(entry)))
        for entry in history_of(store, room_id, *VISIBILITY, seq)
    ]
    oldest = DEFAULT if len(found) < MAX_CHANGES else "joined"
    return ((0, oldest), *found[::-1])


def membership_changes(store: Store, row: MembershipRow) -> tuple[Change, ...]:
    """How a user's membership came to what its row says.

    One without an event (an invitation from another server) is known by its row only.
    """
    entries = history_of(store, row.room_id, MEMBER_TYPE, row.user_id, row.seq)
    changes = tuple((entry.seq, membership_of(entry)) for entry in entries)
    return changes[::-1] or ((row.seq, row.membership),)
