"""The newest event that the homeserver is known to have had in each room: one that it does not have any more
tells that its database was restored from a backup.

What is old may be deleted, by a limit on how long history is kept; the newest event of a room never is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridges.matrix.database import Database


class Heads:
    """One event for each room. Those that were newest when the homeserver may have restarted are kept until
    they were looked for, whatever has come since.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, event: Mapping[str, Any]) -> None:
        """The homeserver has an event; of its room, the newest by time is remembered."""
        ts = event.get("origin_server_ts")
        self._database.run(
            "INSERT INTO heads (matrix_room_id, event_id, ts) VALUES (?, ?, ?) "
            "ON CONFLICT (matrix_room_id) DO UPDATE SET event_id = excluded.event_id, ts = excluded.ts "
            "WHERE excluded.ts >= ts",
            event["room_id"],
            event["event_id"],
            # Beyond 64 bits is no time, and not for the database.
            ts if isinstance(ts, int) and abs(ts) < 1 << 62 else 0,
        )

    def suspect(self) -> None:
        """The homeserver may be another one now than it was."""
        self._database.run("UPDATE heads SET suspect = event_id WHERE suspect IS NULL")

    def of(self, matrix_room_id: str) -> str | None:
        """The event that a room must have."""
        row = self._database.first(
            "SELECT coalesce(suspect, event_id) FROM heads WHERE matrix_room_id = ?", matrix_room_id
        )
        return None if row is None else str(row[0])

    def found(self, matrix_room_id: str, event_id: str) -> None:
        """The room has it."""
        self._database.run(
            "UPDATE heads SET suspect = NULL WHERE matrix_room_id = ? AND suspect = ?",
            matrix_room_id,
            event_id,
        )

    def drop(self, matrix_room_id: str) -> None:
        """The room is none of ours any more."""
        self._database.run("DELETE FROM heads WHERE matrix_room_id = ?", matrix_room_id)

    def clear(self) -> None:
        """Nothing is known of what the homeserver has."""
        self._database.run("DELETE FROM heads")
