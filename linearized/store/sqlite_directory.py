"""Names of rooms and published rooms in SQLite."""

from __future__ import annotations

from functools import partial

from linearized.store.directory import AliasRow
from linearized.store.sqlite_reader import Reader
from linearized.store.sqlite_writer import Transaction
from linearized.store.sqlite_writes import Writes


def put_alias(transaction: Transaction, *, row: AliasRow, most: int) -> str | None:
    """Keep an alias; the room it stands for, or None if the room has too many."""
    execute = transaction.connection.execute
    for (room_id,) in execute("SELECT room_id FROM aliases WHERE alias = ?", (row.alias,)).fetchall():
        kept: str = room_id
        return kept
    inserted = execute(
        "INSERT INTO aliases (alias, room_id, creator) SELECT ?1, ?2, ?3"
        " WHERE (SELECT count(*) FROM aliases WHERE room_id = ?2) < ?4",
        (row.alias, row.room_id, row.creator, most),
    )
    return row.room_id if inserted.rowcount else None


def delete_alias(transaction: Transaction, *, alias: str) -> None:
    """Forget an alias."""
    transaction.connection.execute("DELETE FROM aliases WHERE alias = ?", (alias,))


def set_published(transaction: Transaction, *, room_id: str, published: bool, most: int) -> bool:
    """Publish a room or cease to; False if there are too many."""
    execute = transaction.connection.execute
    if not published:
        execute("DELETE FROM published WHERE room_id = ?", (room_id,))
        return True
    if execute("SELECT 1 FROM published WHERE room_id = ?", (room_id,)).fetchone() is not None:
        return True
    inserted = execute(
        "INSERT INTO published (room_id) SELECT ?1 WHERE (SELECT count(*) FROM published) < ?2",
        (room_id, most),
    )
    return bool(inserted.rowcount)


class DirectoryReads(Reader):
    """The reads of ``DirectoryStore``."""

    def alias(self, alias: str) -> AliasRow | None:
        """What an alias stands for."""
        for room_id, creator in self._query("SELECT room_id, creator FROM aliases WHERE alias = ?", alias):
            return AliasRow(alias=alias, room_id=room_id, creator=creator)
        return None

    def aliases(self, room_id: str) -> list[str]:
        """The aliases of a room, in order."""
        rows = self._query("SELECT alias FROM aliases WHERE room_id = ? ORDER BY alias", room_id)
        return [alias for (alias,) in rows]

    def published(self) -> list[str]:
        """The IDs of the rooms that are shown to everybody here."""
        return [room_id for (room_id,) in self._query("SELECT room_id FROM published ORDER BY room_id")]


class DirectoryWrites(Writes):
    """The writes of this module, each durable when it returns."""

    async def put_alias(self, row: AliasRow, *, most: int) -> str | None:
        """Keep an alias; the room it stands for now, or None if the room has too many."""
        return await self._write(partial(put_alias, row=row, most=most))

    async def delete_alias(self, alias: str) -> None:
        """Forget an alias, if there is one."""
        await self._write(partial(delete_alias, alias=alias))

    async def set_published(self, room_id: str, published: bool, *, most: int) -> bool:
        """Show a room to everybody here, or no more; False if too many are shown."""
        return await self._write(partial(set_published, room_id=room_id, published=published, most=most))
