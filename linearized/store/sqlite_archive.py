"""Message archives in SQLite.

How much a user has is counted as records come and go: to add it up for each request would cost as much as
reading the archive.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from linearized.store.archive import ArchiveRecordRow, ArchiveRow, Kept
from linearized.store.sqlite_reader import Reader
from linearized.store.sqlite_writer import Transaction
from linearized.store.sqlite_writes import Writes

_COLUMNS: Final = "number, seq, event_id, tag, expires_ts, stub, sealed, release"
_INSERT: Final = (
    f"INSERT INTO archive_records (archive_nr, {_COLUMNS})"  # noqa: S608 - our own names
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)"
)
_COUNT: Final = "UPDATE archives SET records = records + ?, bytes = bytes + ? WHERE archive_nr = ?"
# What an account has, with all its pseudonyms, by any of them.
_TOTAL: Final = (
    "WITH account (name) AS (SELECT coalesce((SELECT owner FROM pseudonyms WHERE user_id = ?1), ?1))"
    " SELECT coalesce(sum(records), 0), coalesce(sum(bytes), 0) FROM archives WHERE user_id IN"
    " (SELECT name FROM account"
    " UNION SELECT user_id FROM pseudonyms WHERE owner = (SELECT name FROM account))"
)
_EXPIRED: Final = (
    "SELECT archive_nr, number, length(sealed) FROM archive_records"
    " WHERE expires_ts <= ? AND sealed IS NOT NULL LIMIT ?"
)


def _number(transaction: Transaction, user_id: str, archive: bytes) -> int | None:
    row = transaction.connection.execute(
        "SELECT archive_nr FROM archives WHERE user_id = ? AND archive = ?", (user_id, archive)
    ).fetchone()
    return None if row is None else int(row[0])


def put_archive(
    transaction: Transaction,
    *,
    user_id: str,
    room_id: str,
    archive: bytes,
    records: Sequence[ArchiveRecordRow],
    most_records: int,
    most_bytes: int,
) -> Kept:
    """Add neighbouring records; those that are there already stay."""
    execute = transaction.connection.execute
    archive_nr = _number(transaction, user_id, archive)
    last = 0
    if archive_nr is not None:
        (last,) = execute("SELECT records FROM archives WHERE archive_nr = ?", (archive_nr,)).fetchone()
    new = [record for record in records if record.number > last]
    if not new:
        return Kept.ALL
    if new[0].number != last + 1:
        return Kept.GAP
    size = sum(len(record.sealed or b"") for record in new)
    count, total = execute(_TOTAL, (user_id,)).fetchone()
    if count + len(new) > most_records or total + size > most_bytes:
        return Kept.FULL
    if archive_nr is None:
        archive_nr = execute(
            "INSERT INTO archives (user_id, room_id, archive, records, bytes) VALUES (?, ?, ?, 0, 0)",
            (user_id, room_id, archive),
        ).lastrowid
    transaction.connection.executemany(
        _INSERT,
        [
            (
                archive_nr,
                record.number,
                record.seq,
                record.event_id,
                record.tag,
                record.expires_ts,
                record.stub,
                record.sealed,
            )
            for record in new
        ],
    )
    execute(_COUNT, (len(new), size, archive_nr))
    return Kept.ALL


def release_archive(
    transaction: Transaction, *, user_id: str, archive: bytes, releases: Sequence[tuple[bytes, bytes]]
) -> int:
    """Drop the content of the records with these tags."""
    execute = transaction.connection.execute
    archive_nr = _number(transaction, user_id, archive)
    released = freed = 0
    for tag, release in releases:
        for number, size in execute(
            "SELECT number, length(sealed) FROM archive_records"
            " WHERE archive_nr = ? AND tag = ? AND sealed IS NOT NULL",
            (archive_nr, tag),
        ).fetchall():
            execute(
                "UPDATE archive_records SET sealed = NULL, release = ? WHERE archive_nr = ? AND number = ?",
                (release, archive_nr, number),
            )
            released, freed = released + 1, freed + size
    execute(_COUNT, (0, -freed, archive_nr))
    return released


def remove_archive(transaction: Transaction, *, user_id: str, archive: bytes | None, limit: int) -> int:
    """Remove some records, and each archive with its last."""
    execute = transaction.connection.execute
    removed = 0
    for (archive_nr,) in execute(
        "SELECT archive_nr FROM archives WHERE user_id = ?1 AND (?2 IS NULL OR archive = ?2)",
        (user_id, archive),
    ).fetchall():
        # From the end, so that what is left has no gap.
        gone = execute(
            "DELETE FROM archive_records WHERE archive_nr = ?1 AND number IN"
            " (SELECT number FROM archive_records WHERE archive_nr = ?1 ORDER BY number DESC LIMIT ?2)"
            " RETURNING coalesce(length(sealed), 0)",
            (archive_nr, limit - removed),
        ).fetchall()
        execute(_COUNT, (-len(gone), -sum(size for (size,) in gone), archive_nr))
        execute("DELETE FROM archives WHERE archive_nr = ? AND records = 0", (archive_nr,))
        removed += len(gone)
        if removed >= limit:
            break
    return removed


def expire_archive(transaction: Transaction, *, now_ms: int, limit: int) -> int:
    """Drop the content of some records whose time has come; of how many."""
    execute = transaction.connection.execute
    expired = execute(_EXPIRED, (now_ms, limit)).fetchall()
    for archive_nr, number, size in expired:
        execute(
            "UPDATE archive_records SET sealed = NULL WHERE archive_nr = ? AND number = ?",
            (archive_nr, number),
        )
        execute(_COUNT, (0, -size, archive_nr))
    return len(expired)


class ArchiveReads(Reader):
    """The reads of ``ArchiveStore``."""

    def archive_records(
        self, user_id: str, archive: bytes, *, after: int, limit: int, now_ms: int
    ) -> list[ArchiveRecordRow]:
        """Those with ``number > after``, in order; without what has expired."""
        rows = self._query(
            f"SELECT {_COLUMNS} FROM archives JOIN archive_records USING (archive_nr)"  # noqa: S608 - as above
            " WHERE user_id = ? AND archive = ? AND number > ? ORDER BY number LIMIT ?",
            user_id,
            archive,
            after,
            limit,
        )
        return [
            ArchiveRecordRow(
                number=number,
                seq=seq,
                event_id=event_id,
                tag=tag,
                expires_ts=expires_ts,
                stub=stub,
                sealed=None if expires_ts is not None and expires_ts <= now_ms else sealed,
                release=release,
            )
            for number, seq, event_id, tag, expires_ts, stub, sealed, release in rows
        ]

    def archives(self, user_id: str) -> list[ArchiveRow]:
        """All of a user's, oldest first."""
        return [
            ArchiveRow(room_id=room_id, archive=archive, records=records, bytes=size)
            for room_id, archive, records, size in self._query(
                "SELECT room_id, archive, records, bytes FROM archives WHERE user_id = ? ORDER BY archive_nr",
                user_id,
            )
        ]


class ArchiveWrites(Writes):
    """The writes of this module, each durable when it returns."""

    async def put_archive(
        self,
        user_id: str,
        room_id: str,
        archive: bytes,
        records: Sequence[ArchiveRecordRow],
        *,
        most_records: int,
        most_bytes: int,
    ) -> Kept:
        """Add records to an archive."""
        return await self._write(
            partial(
                put_archive,
                user_id=user_id,
                room_id=room_id,
                archive=archive,
                records=records,
                most_records=most_records,
                most_bytes=most_bytes,
            )
        )

    async def release_archive(
        self, user_id: str, archive: bytes, releases: Sequence[tuple[bytes, bytes]]
    ) -> int:
        """Drop the content of records by tag; of how many."""
        return await self._write(
            partial(release_archive, user_id=user_id, archive=archive, releases=releases)
        )

    async def remove_archive(self, user_id: str, archive: bytes | None, *, limit: int) -> int:
        """Remove some records of one archive, or of all of a user's; how many."""
        return await self._write(partial(remove_archive, user_id=user_id, archive=archive, limit=limit))
