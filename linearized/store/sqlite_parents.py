"""Rooms that depend on others in SQLite."""

from __future__ import annotations

import json
from collections.abc import Iterable

from linearized.protocol.state import CREATE, PARENT_ROOM
from linearized.store.base import EntryRow
from linearized.store.sqlite_reader import Reader
from linearized.store.sqlite_writer import Transaction

_DEPENDANTS = """
SELECT r.room_id FROM parents d JOIN rooms r USING (room_nr)
WHERE d.parent = ? AND r.role = 'hub' ORDER BY room_nr LIMIT ?
"""
_STRAYED = """
SELECT r.room_id FROM parents d JOIN rooms r USING (room_nr)
WHERE r.role = 'hub' AND EXISTS (
    SELECT 1 FROM memberships m
    WHERE m.room_nr = d.room_nr AND m.membership IN ('join', 'invite', 'knock') AND NOT EXISTS (
        SELECT 1 FROM rooms u JOIN memberships p USING (room_nr)
        WHERE u.room_id = d.parent AND p.user_id = m.user_id AND p.membership = 'join'
    )
) ORDER BY room_nr LIMIT ?
"""


def put_parent(transaction: Transaction, entries: Iterable[EntryRow], number: int) -> None:
    """Note the parent that a room's create event names, if it is among these entries."""
    for entry in entries:
        if (entry.type, entry.state_key) != CREATE:
            continue
        parent = json.loads(entry.pdu).get("content", {}).get(PARENT_ROOM)
        if isinstance(parent, str):
            transaction.connection.execute(
                "INSERT OR REPLACE INTO parents (room_nr, parent) VALUES (?, ?)", (number, parent)
            )


class ParentReads(Reader):
    """The reads of ``ParentStore``."""

    def joined_count(self, room_id: str, *, at_most: int | None = None) -> int:
        """How many users have joined a room; counted no further than ``at_most``."""
        rows = self._query(
            "SELECT count(*) FROM"
            " (SELECT 1 FROM memberships WHERE room_nr = ? AND membership = 'join' LIMIT ?)",
            self._room_number(room_id),
            at_most if at_most is not None else -1,
        )
        count: int = rows[0][0]
        return count

    def dependants(self, room_id: str, *, limit: int) -> list[str]:
        """The rooms that depend on a room and are ordered here, oldest first."""
        return [found for (found,) in self._query(_DEPENDANTS, room_id, limit)]

    def strayed(self, *, limit: int) -> list[str]:
        """Rooms ordered here with somebody who is not in their parent, oldest first."""
        return [found for (found,) in self._query(_STRAYED, limit)]
