"""Account data in SQLite."""

from __future__ import annotations

from functools import partial

from linearized.store.account_data import AccountDataRow
from linearized.store.sqlite_reader import Reader
from linearized.store.sqlite_writer import Transaction
from linearized.store.sqlite_writes import Writes

_OTHERS = """
SELECT count(*), coalesce(sum(length(content)), 0), coalesce(max(position), 0) FROM account_data
WHERE user_id = :user_id AND NOT (room_id = :room_id AND type = :type)
"""
_OWN = "SELECT position FROM account_data WHERE user_id = ? AND room_id = ? AND type = ?"
_PUT = """
INSERT INTO account_data (user_id, room_id, type, content, position)
VALUES (:user_id, :room_id, :type, :content, :position)
ON CONFLICT (user_id, room_id, type) DO UPDATE SET content = excluded.content, position = excluded.position
"""


def put_account_data(
    transaction: Transaction, *, row: AccountDataRow, most_rows: int, most_bytes: int
) -> bool:
    """Insert or replace one; False if the user would have too many, or too many bytes of them."""
    names = {"user_id": row.user_id, "room_id": row.room_id, "type": row.type}
    count, size, position = transaction.connection.execute(_OTHERS, names).fetchone()
    if count + 1 > most_rows or size + len(row.content) > most_bytes:
        return False
    own = transaction.connection.execute(_OWN, tuple(names.values())).fetchone()
    following = max(position, own[0] if own is not None else 0) + 1
    transaction.connection.execute(_PUT, {**names, "content": row.content, "position": following})
    return True


class AccountDataReads(Reader):
    """The reads of ``AccountDataStore``."""

    def account_datum(self, user_id: str, room_id: str, kind: str) -> bytes | None:
        """The content, or None."""
        rows = self._query(
            "SELECT content FROM account_data WHERE user_id = ? AND room_id = ? AND type = ?",
            user_id,
            room_id,
            kind,
        )
        return rows[0][0] if rows else None

    def account_data_in(self, user_id: str, room_id: str) -> list[AccountDataRow]:
        """A user's of one room, in the order of their changes."""
        rows = self._query(
            "SELECT type, content, position FROM account_data WHERE user_id = ? AND room_id = ?"
            " ORDER BY position",
            user_id,
            room_id,
        )
        return [
            AccountDataRow(user_id=user_id, room_id=room_id, type=kind, content=content, position=position)
            for kind, content, position in rows
        ]

    def account_data(self, user_id: str, *, after: int) -> list[AccountDataRow]:
        """A user's with ``position > after``, in that order."""
        rows = self._query(
            "SELECT room_id, type, content, position FROM account_data"
            " WHERE user_id = ? AND position > ? ORDER BY position",
            user_id,
            after,
        )
        return [
            AccountDataRow(user_id=user_id, room_id=room_id, type=kind, content=content, position=position)
            for room_id, kind, content, position in rows
        ]


class AccountDataWrites(Writes):
    """The writes of this module, each durable when it returns."""

    async def put_account_data(self, row: AccountDataRow, *, most_rows: int, most_bytes: int) -> bool:
        """Insert or replace account data; False if the user would have too much."""
        return await self._write(
            partial(put_account_data, row=row, most_rows=most_rows, most_bytes=most_bytes)
        )
