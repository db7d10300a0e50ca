"""Which Matrix room is bridged to which room, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from sqlite3 import Row

from bridges.matrix.database import Database

# What is forgotten with a room.
_ROOM_TABLES = (
    "history",
    "messages",
    "set_aside",
    "sayings",
    "readings",
    "expirations",
    "heads",
    "kept",
    "restored",
    "replaced",
    "rooms",
)


class Phase(StrEnum):
    """How far a room is: its history is being read, then imported, then its people added; then it is live."""

    WALKING = "walking"
    IMPORTING = "importing"
    ADDING = "adding"
    LIVE = "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A Matrix room and the provider's room it is bridged to (``None`` until that exists)."""

    matrix_room_id: str
    room_id: str | None
    phase: Phase
    walk_token: str | None
    walked: bool


class RoomLinks:
    """Which Matrix room is bridged to which room."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, matrix_room_id: str) -> Link:
        """The room's link, made if there is none yet."""
        self._database.run(
            "INSERT OR IGNORE INTO rooms (matrix_room_id, phase) VALUES (?, ?)", matrix_room_id, Phase.WALKING
        )
        found = self.of_matrix(matrix_room_id)
        if found is None:
            raise LookupError(matrix_room_id)
        return found

    def of_matrix(self, matrix_room_id: str) -> Link | None:
        """By the Matrix room."""
        return _link(self._database.first("SELECT * FROM rooms WHERE matrix_room_id = ?", matrix_room_id))

    def of_room(self, room_id: str) -> Link | None:
        """By the provider's room."""
        return _link(self._database.first("SELECT * FROM rooms WHERE room_id = ?", room_id))

    def all(self) -> list[Link]:
        """Every room."""
        rows = self._database.all("SELECT * FROM rooms ORDER BY matrix_room_id")
        return [link for link in map(_link, rows) if link is not None]

    def set_room(self, matrix_room_id: str, room_id: str) -> None:
        """The provider's room exists now."""
        self._database.run("UPDATE rooms SET room_id = ? WHERE matrix_room_id = ?", room_id, matrix_room_id)

    def move(self, old: str, new: str) -> None:
        """Another Matrix room takes the place of a bridged one. What people at providers said and could not
        be said there any more is to be said in the new one.
        """
        with self._database.together():
            self._database.run("UPDATE rooms SET matrix_room_id = ? WHERE matrix_room_id = ?", new, old)
            self._database.run("INSERT OR REPLACE INTO replaced VALUES (?, ?)", old, new)
            self._database.run(
                "UPDATE kept SET matrix_room_id = ?, gone = 1 WHERE matrix_room_id = ? "
                "AND log_event_id NOT IN (SELECT log_event_id FROM messages WHERE log_event_id IS NOT NULL)",
                new,
                old,
            )

    def line(self, matrix_room_id: str) -> list[str]:
        """A Matrix room and those that it replaced, one after the other."""
        rows = self._database.all(
            "WITH RECURSIVE line (room) AS (SELECT ? UNION SELECT matrix_room_id FROM replaced, line "
            "WHERE by = room) SELECT room FROM line",
            matrix_room_id,
        )
        return [row["room"] for row in rows]

    def forget(self, matrix_room_id: str) -> None:
        """The room is not bridged any more. Bridged again, it is a new room at the provider."""
        with self._database.together():
            self._database.run(
                "DELETE FROM outgoing WHERE matrix_event_id IN "
                "(SELECT event_id FROM incoming WHERE room_id = ?)",
                matrix_room_id,
            )
            self._database.run("DELETE FROM incoming WHERE room_id = ?", matrix_room_id)
            for table in _ROOM_TABLES:  # constants of this module, so nobody's text gets into the statement
                self._database.run(f"DELETE FROM {table} WHERE matrix_room_id = ?", matrix_room_id)  # noqa: S608

    def counts(self, matrix_room_id: str) -> dict[str, int]:
        """How many of the room's past events are waiting, imported, left out, failed."""
        rows = self._database.all(
            "SELECT state, COUNT(*) AS number FROM history WHERE matrix_room_id = ? GROUP BY state",
            matrix_room_id,
        )
        return {row["state"]: int(row["number"]) for row in rows}

    def set_phase(self, matrix_room_id: str, phase: Phase) -> None:
        """The room has come this far."""
        self._database.run("UPDATE rooms SET phase = ? WHERE matrix_room_id = ?", phase, matrix_room_id)


def _link(row: Row | None) -> Link | None:
    if row is None:
        return None
    return Link(
        matrix_room_id=row["matrix_room_id"],
        room_id=row["room_id"],
        phase=Phase(row["phase"]),
        walk_token=row["walk_token"],
        walked=bool(row["walked"]),
    )
