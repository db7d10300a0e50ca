"""Writing rooms to SQLite: the compare-and-append, and followers' cursors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial

from linearized.exceptions import AppendConflict, StoreError
from linearized.store.base import EntryRow, FollowerRow, GroupRow, MembershipRow, RoomAppend
from linearized.store.past_trees import PastTreeRow
from linearized.store.pulling import PullCursorRow
from linearized.store.sqlite_devices import insert_replies, insert_to_device
from linearized.store.sqlite_keys import MAX_SEQ, SEQ_BITS, event_key
from linearized.store.sqlite_parents import put_parent
from linearized.store.sqlite_past_trees import put_past_tree
from linearized.store.sqlite_relations import put_relations
from linearized.store.sqlite_ways_in import put_ways_in
from linearized.store.sqlite_writer import Transaction
from linearized.store.sqlite_writes import Writes

_MEMBER = "m.room.member"
_INSERT_ENTRY = """
INSERT INTO entries (id, event_key, event_id, type, state_key, sender, origin_server_ts, epoch, pdu)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
WHERE NOT EXISTS (SELECT 1 FROM entries WHERE event_key = ?2 AND event_id = ?3)
"""


def append_rows(transaction: Transaction, change: RoomAppend) -> None:
    """Apply one change of one room.

    Raises:
        AppendConflict: the entries do not continue the log, or the log holds one of them already.
        StoreError: the room is unknown and not created, or the parts belong to different rooms.
    """
    _require_one_room(change)
    members = (*_memberships_set_by(change.entries), *change.memberships)
    number, head = _advance_room(transaction, change, changed=bool(change.entries or members))
    _insert_entries(transaction, change.entries, number, head)
    base = number << SEQ_BITS
    put_parent(transaction, change.entries, number)
    put_relations(transaction.connection, ((base + entry.seq, entry.pdu) for entry in change.entries))
    put_ways_in(
        transaction.connection,
        change.room_id,
        ((entry.type, entry.state_key, entry.pdu) for entry in change.entries),
    )
    if members:
        transaction.connection.executemany(
            "INSERT OR REPLACE INTO memberships (room_nr, user_id, membership, seq) VALUES (?, ?, ?, ?)",
            [(number, row.user_id, row.membership, row.seq) for row in members],
        )
    if change.group is not None:
        put_group(transaction, change.group, number)
    insert_replies(transaction, change.replies)
    insert_to_device(transaction, change.to_device)
    for follower in change.followers:
        put_follower(transaction, follower)
    for tree in change.past_trees:
        put_past_tree(transaction, tree, number)
    if change.pulled is not None:
        put_pull_cursor(transaction, change.pulled)
    if change.followed is not None:
        _put_followed_group(transaction, change.followed, number)


def _put_followed_group(transaction: Transaction, leaves: bytes, number: int) -> None:
    if leaves:
        transaction.connection.execute(
            "INSERT OR REPLACE INTO followed_groups (room_nr, leaves) VALUES (?, ?)", (number, leaves)
        )
    else:
        transaction.connection.execute("DELETE FROM followed_groups WHERE room_nr = ?", (number,))


def put_pull_cursor(transaction: Transaction, row: PullCursorRow) -> None:
    """Insert or replace the cursor of a hub we fetch from."""
    transaction.connection.execute(
        "INSERT OR REPLACE INTO pull_cursors (hub, cursor) VALUES (?, ?)", (row.hub, row.cursor)
    )


def put_follower(transaction: Transaction, follower: FollowerRow) -> None:
    """Insert a follower, or replace its cursor and stop. Raises StoreError if the room is unknown."""
    inserted = transaction.connection.execute(
        "INSERT OR REPLACE INTO followers (room_nr, provider, protocol, cursor, stop_seq)"
        " SELECT room_nr, ?, ?, ?, ? FROM rooms WHERE room_id = ?",
        (follower.provider, follower.protocol, follower.cursor, follower.stop_seq, follower.room_id),
    )
    if not inserted.rowcount:
        raise StoreError(f"there is no room {follower.room_id} to follow")


def move_cursors(transaction: Transaction, *, followers: Sequence[FollowerRow]) -> None:
    """Move followers' cursors forward. Their stops may be set by appends that run at the same time, so they
    are not touched.
    """
    transaction.connection.executemany(
        "UPDATE followers SET cursor = :cursor"
        " WHERE provider = :provider AND protocol = :protocol AND cursor < :cursor"
        " AND room_nr = (SELECT room_nr FROM rooms WHERE room_id = :room_id)",
        [
            {
                "room_id": row.room_id,
                "provider": row.provider,
                "protocol": row.protocol,
                "cursor": row.cursor,
            }
            for row in followers
        ],
    )


def _require_one_room(change: RoomAppend) -> None:
    parts: list[EntryRow | MembershipRow | FollowerRow | PastTreeRow] = [
        *change.past_trees,
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


def _advance_room(transaction: Transaction, change: RoomAppend, *, changed: bool) -> tuple[int, int]:
    """Move the room's head, epoch and position on; its number, and its head before. Creates the room if
    asked to.
    """
    execute = transaction.connection.execute
    count = len(change.entries)
    position = transaction.position if changed else None
    room = change.room
    if room is not None:
        # A room that is known already may have a new hub, and we a new part in it.
        execute(
            "INSERT INTO rooms (room_id, version, role, hub, head_seq, epoch, position)"
            " VALUES (?, ?, ?, ?, 0, NULL, 0) ON CONFLICT (room_id) DO UPDATE"
            " SET version = excluded.version, role = excluded.role, hub = excluded.hub",
            (room.room_id, room.version, room.role, room.hub),
        )
    row = execute(
        "UPDATE rooms SET head_seq = head_seq + ?, epoch = coalesce(?, epoch),"
        " position = coalesce(?, position) WHERE room_id = ? RETURNING room_nr, head_seq",
        (count, _epoch_after(change), position, change.room_id),
    ).fetchone()
    if row is None:
        raise StoreError(f"there is no room {change.room_id} to append to")
    number, head = row[0], row[1] - count
    if changed:
        # A second append to the room in the same transaction adds nothing: the first new entry stays the
        # first.
        execute(
            "INSERT INTO stream (room_nr, position, first_seq) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (number, position, head + 1),
        )
    return number, head


def _epoch_after(change: RoomAppend) -> int | None:
    # The group may have been written out before the last of several commits.
    epochs = [entry.epoch for entry in change.entries if entry.epoch is not None]
    if epochs:
        return epochs[-1]
    if change.group is not None:
        return change.group.epoch
    return change.room.epoch if change.room is not None else None


def _insert_entries(transaction: Transaction, entries: tuple[EntryRow, ...], number: int, head: int) -> None:
    base = number << SEQ_BITS
    for seq, entry in enumerate(entries, head + 1):
        if entry.seq != seq or seq > MAX_SEQ:
            raise AppendConflict(f"{entry.room_id} continues with entry {seq}, not {entry.seq}")
    inserted = transaction.connection.executemany(
        _INSERT_ENTRY,
        (
            (
                base + entry.seq,
                event_key(entry.event_id),
                entry.event_id,
                entry.type,
                entry.state_key,
                entry.sender,
                entry.origin_server_ts,
                entry.epoch,
                entry.pdu,
            )
            for entry in entries
        ),
    )
    if inserted.rowcount != len(entries):
        raise AppendConflict(f"an entry for {entries[0].room_id} is in a log already")
    transaction.connection.executemany(
        "INSERT INTO state (room_nr, type, state_key, seq) VALUES (?, ?, ?, ?)",
        [
            (number, entry.type, entry.state_key, entry.seq)
            for entry in entries
            if entry.state_key is not None
        ],
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


def put_group(transaction: Transaction, group: GroupRow, number: int) -> None:
    """Insert or replace a room's group."""
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


class RoomWrites(Writes):
    """Appends, and how far followers are."""

    async def append(self, append: RoomAppend) -> None:
        """Append atomically; see ``append_rows`` for what is refused."""
        await self._write(
            partial(append_rows, change=append),
            followed=[row.room_id for row in append.followers],
            to_device=append.to_device,
        )

    async def put_follower(self, follower: FollowerRow) -> None:
        """Insert a follower, or move its cursor and stop. StoreError if the room is unknown."""
        operation = partial(put_follower, follower=follower)
        await self._write(operation, followed=[follower.room_id])

    async def move_cursors(self, followers: Sequence[FollowerRow]) -> None:
        """Move followers' cursors forward, and leave their stops as they are."""
        if followers:
            operation = partial(move_cursors, followers=followers)
            await self._write(operation, followed=[row.room_id for row in followers])

    async def put_pull_cursor(self, row: PullCursorRow) -> None:
        """Insert or replace the cursor of a hub we fetch from."""
        await self._write(partial(put_pull_cursor, row=row))
