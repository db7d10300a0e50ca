"""Ways into rooms in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from linearized.store.sqlite_reader import Reader
from linearized.store.ways_in import STATE, Way, ways_of


def put_ways_in(
    connection: sqlite3.Connection, room_id: str, events: Iterable[tuple[str, str | None, bytes]]
) -> None:
    """Note what a room's events, each with type, state key and PDU, in order, change about the ways in."""
    for event_type, state_key, pdu in events:
        if event_type not in STATE or state_key != "":
            continue
        connection.executemany(
            "DELETE FROM ways_in WHERE room_id = ? AND way = ?", [(room_id, way) for way in STATE[event_type]]
        )
        connection.executemany(
            "INSERT INTO ways_in (room_id, way, via) VALUES (?, ?, ?)",
            [(room_id, *way) for way in ways_of(event_type, pdu)],
        )


class WayReads(Reader):
    """The reads of ``WayStore``."""

    def ways_in(self, room_id: str) -> frozenset[Way]:
        """The ways into a room; none if there is no such room."""
        return frozenset(self._query("SELECT way, via FROM ways_in WHERE room_id = ?", room_id))
