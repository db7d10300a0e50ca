"""Receipts in SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from linearized.store.receipts import ReceiptRow
from linearized.store.sqlite_history import room_number
from linearized.store.sqlite_reader import Reader
from linearized.store.sqlite_writer import Transaction
from linearized.store.sqlite_writes import Writes

_PUT = """
INSERT INTO receipts (room_nr, user_id, kind, thread_id, event_id, seq, ts, position)
VALUES (?, ?, ?, ?, ?, ?, ?, (SELECT coalesce(max(position), 0) + 1 FROM receipts))
ON CONFLICT (room_nr, user_id, kind, thread_id) DO UPDATE
SET event_id = excluded.event_id, seq = excluded.seq, ts = excluded.ts, position = excluded.position
WHERE excluded.seq > seq
"""
_DROP_OLDEST = """
DELETE FROM receipts WHERE position IN (
    SELECT position FROM receipts WHERE room_nr = ? AND user_id = ? AND kind = ? AND thread_id != ''
    ORDER BY position DESC LIMIT -1 OFFSET ?
)
"""
# Room by room, so that what other rooms' users read costs nothing; whoever knows the newest asks no room.
_RECEIPTS = """
SELECT r.room_id, x.user_id, x.kind, x.thread_id, x.event_id, x.seq, x.ts, x.position
FROM memberships m CROSS JOIN receipts x ON x.room_nr = m.room_nr AND x.position > ?2
CROSS JOIN rooms r ON r.room_nr = m.room_nr
WHERE m.user_id = ?1 AND m.membership = 'join' AND (x.kind != 'm.read.private' OR x.user_id = ?1)
ORDER BY x.position LIMIT ?3
"""
_RECEIPTS_IN = """
SELECT ?1, x.user_id, x.kind, x.thread_id, x.event_id, x.seq, x.ts, x.position FROM receipts x
WHERE x.room_nr = ?2 AND x.position <= ?4 AND (x.kind != 'm.read.private' OR x.user_id = ?3)
ORDER BY x.position DESC LIMIT ?5
"""
_READ_UP_TO = "SELECT thread_id, max(seq) FROM receipts WHERE room_nr = ? AND user_id = ? GROUP BY thread_id"


def put_receipts(transaction: Transaction, *, rows: Sequence[ReceiptRow], most_threads: int) -> bool:
    """Move receipts forward; whether any moved."""
    moved = False
    for row in rows:
        number = room_number(transaction, row.room_id)
        values = (number, row.user_id, row.kind, row.thread_id, row.event_id, row.seq, row.ts)
        moved = transaction.connection.execute(_PUT, values).rowcount > 0 or moved
        if row.thread_id:
            kept = (number, row.user_id, row.kind, most_threads)
            transaction.connection.execute(_DROP_OLDEST, kept)
    return moved


class ReceiptReads(Reader):
    """The reads of ``ReceiptStore``."""

    def receipts(self, user_id: str, *, after: int, limit: int) -> list[ReceiptRow]:
        """Those in the user's rooms with ``position > after``, in that order."""
        (newest,) = self._query("SELECT coalesce(max(position), 0) FROM receipts")
        if newest[0] <= after:
            return []
        return [_receipt(row) for row in self._query(_RECEIPTS, user_id, after, limit)]

    def receipts_in(self, room_id: str, user_id: str, *, until: int, limit: int) -> list[ReceiptRow]:
        """The latest of one room with ``position <= until``, newest first."""
        number = self._room_number(room_id)
        return [_receipt(row) for row in self._query(_RECEIPTS_IN, room_id, number, user_id, until, limit)]

    def read_up_to(self, room_id: str, user_id: str) -> dict[str, int]:
        """The last entry that a user has read in each thread."""
        return dict(self._query(_READ_UP_TO, self._room_number(room_id), user_id))


def _receipt(row: tuple[Any, ...]) -> ReceiptRow:
    room_id, user_id, kind, thread_id, event_id, seq, ts, position = row
    return ReceiptRow(
        room_id=room_id,
        user_id=user_id,
        kind=kind,
        thread_id=thread_id,
        event_id=event_id,
        seq=seq,
        ts=ts,
        position=position,
    )


class ReceiptWrites(Writes):
    """The writes of this module, each durable when it returns."""

    async def put_receipts(self, rows: Sequence[ReceiptRow], *, most_threads: int) -> bool:
        """Move receipts forward; whether any moved."""
        return await self._write(partial(put_receipts, rows=rows, most_threads=most_threads))
