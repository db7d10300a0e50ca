"""Staged logs in SQLite, and how one takes the place of a participant's copy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from linearized.exceptions import AppendConflict, StoreError
from linearized.protocol.state import PARENT_ROOM
from linearized.store.base import EntryRow
from linearized.store.moving import Adoption
from linearized.store.sqlite_append import put_follower, put_group
from linearized.store.sqlite_history import room_number
from linearized.store.sqlite_keys import MAX_SEQ, SEQ_BITS, event_key
from linearized.store.sqlite_reader import Reader
from linearized.store.sqlite_relations import put_relations
from linearized.store.sqlite_rooms import entry_of
from linearized.store.sqlite_ways_in import put_ways_in
from linearized.store.sqlite_writer import Transaction
from linearized.store.sqlite_writes import Writes

_STAGED = """
SELECT seq, event_id, type, state_key, sender, origin_server_ts, epoch, pdu
FROM staged WHERE room_nr = ? AND seq > ? ORDER BY seq LIMIT ?
"""


def stage_entries(transaction: Transaction, *, room_id: str, entries: Sequence[EntryRow]) -> None:
    """Append entries to a room's staged log."""
    number = room_number(transaction, room_id)
    head = _staged_head(transaction, number)
    for seq, entry in enumerate(entries, head + 1):
        if entry.seq != seq or entry.room_id != room_id or seq > MAX_SEQ:
            raise AppendConflict(f"the staged log of {room_id} continues with entry {seq}, not {entry.seq}")
    transaction.connection.executemany(
        "INSERT INTO staged (room_nr, seq, event_key, event_id, type, state_key, sender, origin_server_ts,"
        " epoch, pdu) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                number,
                entry.seq,
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
        ],
    )


def drop_staged(transaction: Transaction, *, room_id: str) -> None:
    """Forget a room's staged log."""
    transaction.connection.execute(
        "DELETE FROM staged WHERE room_nr = (SELECT room_nr FROM rooms WHERE room_id = ?)", (room_id,)
    )


def adopt(transaction: Transaction, *, adoption: Adoption) -> None:
    """Put the staged log in the place of our copy."""
    execute = transaction.connection.execute
    room = adoption.room
    number = room_number(transaction, room.room_id)
    base = number << SEQ_BITS
    head = execute("SELECT head_seq FROM rooms WHERE room_nr = ?", (number,)).fetchone()[0]
    staged = _staged_head(transaction, number)
    last = [
        execute("SELECT event_id FROM entries WHERE id = ?", (base + head,)).fetchone(),
        execute("SELECT event_id FROM staged WHERE room_nr = ? AND seq = ?", (number, staged)).fetchone(),
    ]
    if last[0] is None or last[0] != last[1]:
        raise StoreError(f"the staged log of {room.room_id} does not end as our copy does")
    execute("DELETE FROM entries WHERE id BETWEEN ? AND ?", (base + 1, base + MAX_SEQ))
    execute(
        "INSERT INTO entries (id, event_key, event_id, type, state_key, sender, origin_server_ts, epoch, pdu)"
        " SELECT ? + seq, event_key, event_id, type, state_key, sender, origin_server_ts, epoch, pdu"
        " FROM staged WHERE room_nr = ? ORDER BY seq",
        (base, number),
    )
    execute("DELETE FROM relations WHERE room_nr = ?", (number,))
    put_relations(
        transaction.connection,
        execute("SELECT id, pdu FROM entries WHERE id BETWEEN ? AND ?", (base + 1, base + MAX_SEQ)),
    )
    execute("UPDATE receipts SET seq = seq + ? WHERE room_nr = ?", (staged - head, number))
    execute("DELETE FROM state WHERE room_nr = ?", (number,))
    execute(
        "INSERT INTO state (room_nr, type, state_key, seq)"
        " SELECT room_nr, type, state_key, seq FROM staged WHERE room_nr = ? AND state_key IS NOT NULL",
        (number,),
    )
    execute("DELETE FROM memberships WHERE room_nr = ?", (number,))
    execute(
        "INSERT OR REPLACE INTO memberships (room_nr, user_id, membership, seq)"
        " SELECT room_nr, state_key, json_extract(CAST(pdu AS TEXT), '$.content.membership'), seq FROM staged"
        " WHERE room_nr = ? AND type = 'm.room.member' AND state_key IS NOT NULL ORDER BY seq",
        (number,),
    )
    execute("DELETE FROM ways_in WHERE room_id = ?", (room.room_id,))
    ruling = execute(
        "SELECT type, state_key, pdu FROM staged WHERE room_nr = ? AND state_key = ''"
        " AND type IN ('m.room.history_visibility', 'm.room.join_rules') ORDER BY seq",
        (number,),
    ).fetchall()
    put_ways_in(transaction.connection, room.room_id, ruling)
    # A participant that joined later has not seen the create event before.
    execute(
        "INSERT OR REPLACE INTO parents (room_nr, parent)"
        " SELECT room_nr, json_extract(CAST(pdu AS TEXT), ?) AS parent FROM staged"
        " WHERE room_nr = ? AND type = 'm.room.create' AND state_key = '' AND parent IS NOT NULL",
        (f'$.content."{PARENT_ROOM}"', number),
    )
    execute("UPDATE stream SET first_seq = first_seq + ? WHERE room_nr = ?", (staged - head, number))
    execute("DELETE FROM tree WHERE room_nr = ?", (number,))
    execute("DELETE FROM groups WHERE room_nr = ?", (number,))
    execute("DELETE FROM followers WHERE room_nr = ?", (number,))
    execute(
        "UPDATE rooms SET version = ?, role = ?, hub = ?, epoch = ?, head_seq = ? WHERE room_nr = ?",
        (room.version, room.role, room.hub, room.epoch, staged, number),
    )
    execute("DELETE FROM staged WHERE room_nr = ?", (number,))
    if adoption.group is not None:
        put_group(transaction, adoption.group, number)
    for follower in adoption.followers:
        put_follower(transaction, follower)


def _staged_head(transaction: Transaction, number: int) -> int:
    head: int = transaction.connection.execute(
        "SELECT coalesce(max(seq), 0) FROM staged WHERE room_nr = ?", (number,)
    ).fetchone()[0]
    return head


class MovingReads(Reader):
    """Reads of staged logs."""

    def staged(self, room_id: str, *, after: int, limit: int) -> list[EntryRow]:
        """Staged entries with ``seq > after``, ascending, at most ``limit``."""
        rows = self._query(_STAGED, self._room_number(room_id), after, max(limit, 0))
        return [entry_of(room_id, row) for row in rows]

    def staged_head(self, room_id: str) -> int:
        """The ``seq`` of the last staged entry."""
        rows = self._query(
            "SELECT coalesce(max(seq), 0) FROM staged WHERE room_nr = ?", self._room_number(room_id)
        )
        head: int = rows[0][0]
        return head


class MovingWrites(Writes):
    """The writes of this module, each durable when it returns."""

    async def stage_entries(self, room_id: str, entries: Sequence[EntryRow]) -> None:
        """Append entries to a room's staged log."""
        await self._write(partial(stage_entries, room_id=room_id, entries=entries))

    async def drop_staged(self, room_id: str) -> None:
        """Forget a room's staged log."""
        await self._write(partial(drop_staged, room_id=room_id))

    async def adopt(self, adoption: Adoption) -> None:
        """Put the staged log in the place of our copy."""
        operation = partial(adopt, adoption=adoption)
        await self._write(operation, followed=[adoption.room.room_id])
