"""A ``Room`` from what the store holds."""

from __future__ import annotations

from linearized.mls import Mls
from linearized.protocol.events import Event, parse_stored
from linearized.protocol.signing import ServerIdentity
from linearized.protocol.versions import RoomVersion, get_version
from linearized.room.room import Room
from linearized.store.base import EntryRow, RoomRow, Store


def event_of(row: EntryRow, version: RoomVersion) -> Event:
    """The event of a stored entry; its bytes were checked before they were stored."""
    return parse_stored(row.pdu, version, row.event_id)


def state_of(store: Store, row: RoomRow, seq: int | None = None) -> dict[tuple[str, str], Event]:
    """The state after entry ``seq`` (default: the last), by (type, state_key)."""
    version = get_version(row.version)
    return {
        (entry.type, entry.state_key or ""): event_of(entry, version)
        for entry in store.state_at(row.room_id, seq=row.head_seq if seq is None else seq)
    }


def restore_room(
    store: Store,
    row: RoomRow,
    *,
    identity: ServerIdentity,
    mls: Mls,
    vouched_domains: frozenset[str],
) -> Room:
    """The room as its last durable entry left it."""
    group = store.group(row.room_id)
    last = store.entries_before(row.room_id, before=row.head_seq + 1, limit=1)
    return Room(
        room_id=row.room_id,
        version=get_version(row.version),
        identity=identity,
        mls=mls,
        vouched_domains=vouched_domains,
        state=state_of(store, row),
        head=(row.head_seq, last[0].event_id if last else None),
        group=mls.load(group.snapshot) if group is not None else None,
        last_commit_id=group.commit_event_id if group is not None else None,
    )
