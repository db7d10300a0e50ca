"""Rooms that the bot is just being brought into by a user's client, which has read what came before it."""

from __future__ import annotations

from bridges.matrix.database import Database


class Openings:
    """Remembered until all that the client read was shown."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, room_id: str, user_id: str) -> None:
        """A user's client begins; another one's that has begun goes on."""
        self._database.run("INSERT OR IGNORE INTO openings VALUES (?, ?)", room_id, user_id)

    def done(self, room_id: str) -> None:
        """There is nothing left to show."""
        self._database.run("DELETE FROM openings WHERE room_id = ?", room_id)

    def all(self) -> list[tuple[str, str]]:
        """Rooms, and whose client brings the bot in."""
        rows = self._database.all("SELECT room_id, user_id FROM openings ORDER BY room_id")
        return [(row["room_id"], row["user_id"]) for row in rows]

    def is_under_way(self, room_id: str) -> bool:
        """Whether a room is among them."""
        return self._database.first("SELECT 1 FROM openings WHERE room_id = ?", room_id) is not None
