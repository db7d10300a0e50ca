"""Merkle tiles, audits and findings in SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from linearized.exceptions import StoreError
from linearized.store.history import AuditRow, FindingRow
from linearized.store.sqlite_keys import MAX_SEQ, SEQ_BITS
from linearized.store.sqlite_reader import Reader
from linearized.store.sqlite_writer import Transaction
from linearized.store.sqlite_writes import Writes

_AUDIT = """
SELECT hub, anchor_seq, anchor_size, anchor_frontier, size, frontier, checkpoint, key_id, checked_at
FROM audits WHERE room_nr = ?
"""
_FINDINGS = """
SELECT digest, room_id, hub, proven, reason, document, found_at, dismissed_at FROM findings
WHERE ?1 IS NULL OR room_id = ?1 ORDER BY found_at, digest
"""


def put_tree_hashes(
    transaction: Transaction, *, room_id: str, level: int, first: int, hashes: Sequence[bytes]
) -> None:
    """Store neighbouring hashes of one tile level; those stored already stay."""
    number = room_number(transaction, room_id)
    transaction.connection.executemany(
        "INSERT INTO tree (room_nr, level, position, hash) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(number, level, first + index, found) for index, found in enumerate(hashes)],
    )


def put_audit(transaction: Transaction, audit: AuditRow) -> None:
    """Insert or replace the audit of a room."""
    transaction.connection.execute(
        "INSERT OR REPLACE INTO audits (room_nr, hub, anchor_seq, anchor_size, anchor_frontier, size,"
        " frontier, checkpoint, key_id, checked_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            room_number(transaction, audit.room_id),
            audit.hub,
            audit.anchor_seq,
            audit.anchor_size,
            audit.anchor_frontier,
            audit.size,
            audit.frontier,
            audit.checkpoint,
            audit.key_id,
            audit.checked_at,
        ),
    )


def put_finding(transaction: Transaction, finding: FindingRow) -> bool:
    """Keep a finding; False if it is open already."""
    inserted = transaction.connection.execute(
        "INSERT INTO findings (digest, room_id, hub, proven, reason, document, found_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE"
        " SET found_at = excluded.found_at, document = excluded.document, dismissed_at = NULL"
        " WHERE dismissed_at IS NOT NULL",
        (
            finding.digest,
            finding.room_id,
            finding.hub,
            finding.proven,
            finding.reason,
            finding.document,
            finding.found_at,
        ),
    )
    return inserted.rowcount > 0


def dismiss_findings(transaction: Transaction, digests: Sequence[str], now_ms: int) -> None:
    """Note when findings were dealt with."""
    transaction.connection.executemany(
        "UPDATE findings SET dismissed_at = ? WHERE digest = ? AND dismissed_at IS NULL",
        [(now_ms, digest) for digest in digests],
    )


def delete_audit(transaction: Transaction, room_id: str) -> None:
    """Forget the audit of a room."""
    transaction.connection.execute(
        "DELETE FROM audits WHERE room_nr = (SELECT room_nr FROM rooms WHERE room_id = ?)", (room_id,)
    )


def room_number(transaction: Transaction, room_id: str) -> int:
    """The number that stands for a room. Raises StoreError if it is unknown."""
    row = transaction.connection.execute("SELECT room_nr FROM rooms WHERE room_id = ?", (room_id,)).fetchone()
    if row is None:
        raise StoreError(f"there is no room {room_id}")
    number: int = row[0]
    return number


class HistoryReads(Reader):
    """Reads about verifiable history."""

    def event_ids(self, room_id: str, *, after: int, limit: int) -> list[str]:
        """Event IDs of entries with ``seq > after``, ascending, at most ``limit``."""
        number = self._room_number(room_id)
        first = max(after, 0) + 1
        if number is None or first > MAX_SEQ:
            return []
        base = number << SEQ_BITS
        # The ID stands in front of the PDU, so the pages a large PDU overflows to are not read.
        rows = self._query(
            "SELECT event_id FROM entries WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
            base + first,
            base + MAX_SEQ,
            max(limit, 0),
        )
        return [event_id for (event_id,) in rows]

    def tree_hashes(self, room_id: str, level: int, *, first: int, limit: int) -> list[bytes]:
        """Hashes of a tile level from index ``first`` on, at most ``limit``."""
        rows = self._query(
            "SELECT hash FROM tree WHERE room_nr = ? AND level = ? AND position >= ?"
            " ORDER BY position LIMIT ?",
            self._room_number(room_id),
            level,
            first,
            max(limit, 0),
        )
        return [found for (found,) in rows]

    def tree_count(self, room_id: str, level: int) -> int:
        """How many hashes of a tile level are stored."""
        rows = self._query(
            "SELECT coalesce(max(position) + 1, 0) FROM tree WHERE room_nr = ? AND level = ?",
            self._room_number(room_id),
            level,
        )
        count: int = rows[0][0]
        return count

    def audit(self, room_id: str) -> AuditRow | None:
        """The audit of a room, or None."""
        for row in self._query(_AUDIT, self._room_number(room_id)):
            hub, anchor_seq, anchor_size, anchor_frontier, size, frontier, checkpoint, key_id, checked = row
            return AuditRow(
                room_id=room_id,
                hub=hub,
                anchor_seq=anchor_seq,
                anchor_size=anchor_size,
                anchor_frontier=anchor_frontier,
                size=size,
                frontier=frontier,
                checkpoint=checkpoint,
                key_id=key_id,
                checked_at=checked,
            )
        return None

    def findings(self, room_id: str | None = None) -> list[FindingRow]:
        """The findings about one room, or about all, oldest first."""
        return [
            FindingRow(
                digest=digest,
                room_id=room,
                hub=hub,
                proven=bool(proven),
                reason=reason,
                document=document,
                found_at=found_at,
                dismissed_at=dismissed_at,
            )
            for digest, room, hub, proven, reason, document, found_at, dismissed_at in self._query(
                _FINDINGS, room_id
            )
        ]


class HistoryWrites(Writes):
    """The writes of this module, each durable when it returns."""

    async def put_tree_hashes(self, room_id: str, level: int, first: int, hashes: Sequence[bytes]) -> None:
        """Store neighbouring hashes of one tile level; those stored already stay."""
        await self._write(partial(put_tree_hashes, room_id=room_id, level=level, first=first, hashes=hashes))

    async def put_audit(self, audit: AuditRow) -> None:
        """Insert or replace the audit of a room."""
        await self._write(partial(put_audit, audit=audit))

    async def put_finding(self, finding: FindingRow) -> bool:
        """Keep a finding; False if it is kept already."""
        return await self._write(partial(put_finding, finding=finding))

    async def dismiss_findings(self, digests: Sequence[str], now_ms: int) -> None:
        """Note when the operator was done with findings."""
        await self._write(partial(dismiss_findings, digests=digests, now_ms=now_ms))

    async def delete_audit(self, room_id: str) -> None:
        """Forget how far a room was checked."""
        await self._write(partial(delete_audit, room_id=room_id))
