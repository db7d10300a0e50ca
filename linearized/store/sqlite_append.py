"""Writing rooms to SQLite: the compare-and-append, and followers' cursors."""

from __future__ import annotations

import json
from collections.abc import Iterator

from linearized.exceptions import AppendConflict, StoreError
from linearized.store.base import EntryRow, FollowerRow, GroupRow, MembershipRow, RoomAppend
from linearized.store.sqlite_devices import insert_reply, insert_to_device
from linearized.store.sqlite_keys import MAX_SEQ, SEQ_BITS, event_key
from linearized.store.sqlite_writer import Transaction

_MEMBER = "m.room.member"


def append(transaction: Transaction, change: RoomAppend) -> None:
    """Apply one change of one room.

    Raises:
        AppendConflict: the entries do not continue the log, or the log holds one of them already.
        StoreError: the room is unknown and not created, or the parts belong to different rooms.
    """
    _require_one_room(change)
    number, head = _room_number_and_head(transaction, change)
    _insert_entries(transaction, change.entries, number, head)
    members = (*_memberships_set_by(change.entries), *change.memberships)
    if members:
        transaction.connection.executemany(
            "INSERT OR REPLACE INTO memberships (room_nr, user_id, membership, seq) VALUES (?, ?, ?, ?)",
            [(number, row.user_id, row.membership, row.seq) for row in members],
        )
    if change.group is not None:
        _put_group(transaction, change.group, number)
    if change.entries or members:
        _note_change(transaction, number, head)
    _update_room(transaction, change, number, head)
    for reply in change.replies:
        insert_reply(transaction, reply)
    insert_to_device(transaction, change.to_device)
    for follower in change.followers:
        put_follower(transaction, follower)


def put_follower(transaction: Transaction, follower: FollowerRow) -> None:
    """Insert a follower, or replace its cursor and stop. Raises StoreError if the room is unknown."""
    inserted = transaction.connection.execute(
        "INSERT OR REPLACE INTO followers (room_nr, provider, protocol, cursor, stop_seq)"
        " SELECT room_nr, ?, ?, ?, ? FROM rooms WHERE room_id = ?",
        (follower.provider, follower.protocol, follower.cursor, follower.stop_seq, follower.room_id),
    )
    if not inserted.rowcount:
        raise StoreError(f"there is no room {follower.room_id} to follow")


def _require_one_room(change: RoomAppend) -> None:
    parts: list[EntryRow | MembershipRow | FollowerRow] = [
        *change.entries,
        *change.memberships,
        *change.followers,
    ]
    others = [
        part.room_id
        for part in (*parts, change.room, change.group)
        if part and part.room_id != change.room_id
    ]
    if others:
        raise StoreError(f"an append to {change.room_id} holds something of {others[0]}")


def _room_number_and_head(transaction: Transaction, change: RoomAppend) -> tuple[int, int]:
    row = transaction.connection.execute(
        "SELECT room_nr, head_seq FROM rooms WHERE room_id = ?", (change.room_id,)
    ).fetchone()
    if row is not None:
        number, head = row
        return number, head
    room = change.room
    if room is None:
        raise StoreError(f"there is no room {change.room_id} to append to")
    created = transaction.connection.execute(
        "INSERT INTO rooms (room_id, version, role, hub, head_seq, epoch, position)"
        " VALUES (?, ?, ?, ?, 0, NULL, 0) RETURNING room_nr",
        (room.room_id, room.version, room.role, room.hub),
    ).fetchone()
    return created[0], 0


def _insert_entries(transaction: Transaction, entries: tuple[EntryRow, ...], number: int, head: int) -> None:
    execute = transaction.connection.execute
    base = number << SEQ_BITS
    for seq, entry in enumerate(entries, head + 1):
        if entry.seq != seq or seq > MAX_SEQ:
            raise AppendConflict(f"{entry.room_id} continues with entry {seq}, not {entry.seq}")
        key = event_key(entry.event_id)
        if execute(
            "SELECT 1 FROM entries WHERE event_key = ? AND event_id = ?", (key, entry.event_id)
        ).fetchone():
            raise AppendConflict(f"{entry.event_id} is in a log already")
        execute(
            "INSERT INTO entries"
            " (id, event_key, event_id, type, state_key, sender, origin_server_ts, epoch, pdu)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                base + seq,
                key,
                entry.event_id,
                entry.type,
                entry.state_key,
                entry.sender,
                entry.origin_server_ts,
                entry.epoch,
                entry.pdu,
            ),
        )
        if entry.state_key is not None:
            execute(
                "INSERT INTO state (room_nr, type, state_key, seq) VALUES (?, ?, ?, ?)",
                (number, entry.type, entry.state_key, seq),
            )


def _memberships_set_by(entries: tuple[EntryRow, ...]) -> Iterator[MembershipRow]:
    for entry in entries:
        if entry.type == _MEMBER and entry.state_key is not None:
            try:
                membership = json.loads(entry.pdu)["content"]["membership"]
            except (KeyError, TypeError, ValueError) as error:
                raise StoreError(f"{entry.event_id} is a membership event without a membership") from error
            yield MembershipRow(
                room_id=entry.room_id, user_id=entry.state_key, membership=membership, seq=entry.seq
            )


def _note_change(transaction: Transaction, number: int, head: int) -> None:
    # A second append to the room in the same transaction changes nothing here: the first new entry stays the
    # first.
    transaction.connection.execute(
        "INSERT INTO stream (room_nr, position, first_seq) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (number, transaction.position, head + 1),
    )
    transaction.connection.execute(
        "UPDATE rooms SET position = ? WHERE room_nr = ? AND position <> ?1", (transaction.position, number)
    )


def _update_room(transaction: Transaction, change: RoomAppend, number: int, head: int) -> None:
    epochs = [entry.epoch for entry in change.entries if entry.epoch is not None]
    if change.room is not None and change.room.epoch is not None:
        epochs.insert(0, change.room.epoch)
    if change.group is not None:
        epochs.append(change.group.epoch)
    epoch = epochs[-1] if epochs else None
    if change.room is not None:
        # A room that is known already may have a new hub, and we a new part in it.
        transaction.connection.execute(
            "UPDATE rooms SET version = ?, role = ?, hub = ? WHERE room_nr = ?",
            (change.room.version, change.room.role, change.room.hub, number),
        )
    if change.entries or epoch is not None:
        transaction.connection.execute(
            "UPDATE rooms SET head_seq = ?, epoch = coalesce(?, epoch) WHERE room_nr = ?",
            (head + len(change.entries), epoch, number),
        )


def _put_group(transaction: Transaction, group: GroupRow, number: int) -> None:
    transaction.connection.execute(
        "INSERT OR REPLACE INTO groups"
        " (room_nr, epoch, snapshot, group_info, ratchet_tree, commit_event_id) VALUES (?, ?, ?, ?, ?, ?)",
        (
            number,
            group.epoch,
            group.snapshot,
            group.group_info,
            group.ratchet_tree,
            group.commit_event_id,
        ),
    )
