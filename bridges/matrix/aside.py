"""Events of either side that could not be carried across, with the reasons."""

from __future__ import annotations

from bridges.matrix.database import Database

# Reasons kept for each room; what is older was reported long ago.
ASIDE_KEPT = 1000


class SetAside:
    """Events of either side that could not be carried across, with the reasons."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, matrix_room_id: str, event_id: str, reason: str) -> None:
        """Set an event aside; doing it twice is doing it once."""
        with self._database.together():
            self._database.run(
                "INSERT OR IGNORE INTO set_aside (matrix_room_id, event_id, reason) VALUES (?, ?, ?)",
                matrix_room_id,
                event_id,
                reason,
            )
            self._database.run(
                "DELETE FROM set_aside WHERE matrix_room_id = ?1 AND number <= (SELECT number FROM set_aside "
                "WHERE matrix_room_id = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
                matrix_room_id,
                ASIDE_KEPT,
            )

    def count(self, matrix_room_id: str) -> int:
        """How many of a room were set aside."""
        row = self._database.one("SELECT COUNT(*) FROM set_aside WHERE matrix_room_id = ?", matrix_room_id)
        return int(row[0])

    def last(self, matrix_room_id: str, limit: int) -> list[tuple[str, str]]:
        """The newest of a room: event IDs and reasons."""
        rows = self._database.all(
            "SELECT event_id, reason FROM set_aside WHERE matrix_room_id = ? ORDER BY number DESC LIMIT ?",
            matrix_room_id,
            limit,
        )
        return [(row["event_id"], row["reason"]) for row in rows]
