"""Which rooms are encrypted, how, and in which of them the bridge takes part in that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridges.matrix.database import Database

# "rotation_period_ms: … 604800000 (a week) is the recommended default", "rotation_period_msgs: … 100".
DEFAULT_ROTATION_MS = 604_800_000
DEFAULT_ROTATION_MESSAGES = 100
# A room that asks for more than this would have us share keys all day; one that asks for less leaves its past
# open.
MIN_ROTATION_MS = 3_600_000
MAX_ROTATION_MESSAGES = 10_000
ENCRYPTION = "m.room.encryption"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomSettings:
    """How a room is encrypted: the algorithm, and after how many milliseconds or messages a session ends."""

    algorithm: str
    rotation_ms: int
    rotation_messages: int


def settings_of(content: Mapping[str, Any]) -> RoomSettings:
    """From the content of ``m.room.encryption``; what is not sensible becomes the default or the bound."""
    algorithm = content.get("algorithm")
    return RoomSettings(
        algorithm=algorithm if isinstance(algorithm, str) else "",
        rotation_ms=max(MIN_ROTATION_MS, _number(content.get("rotation_period_ms"), DEFAULT_ROTATION_MS)),
        rotation_messages=min(
            MAX_ROTATION_MESSAGES,
            max(1, _number(content.get("rotation_period_msgs"), DEFAULT_ROTATION_MESSAGES)),
        ),
    )


def _number(value: object, default: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        return default
    return min(max(value, 0), DEFAULT_ROTATION_MS)


class EncryptedRooms:
    """The rooms known to be encrypted, which they are for ever, and those somebody closed to the bridge."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, room_id: str, content: Mapping[str, Any]) -> None:
        """The room is encrypted, with these settings."""
        settings = settings_of(content)
        self._database.run(
            "INSERT OR REPLACE INTO encrypted_rooms VALUES (?, ?, ?, ?)",
            room_id,
            settings.algorithm,
            settings.rotation_ms,
            settings.rotation_messages,
        )

    def settings(self, room_id: str) -> RoomSettings | None:
        """How the room is encrypted; ``None`` if it is not known to be."""
        row = self._database.first("SELECT * FROM encrypted_rooms WHERE room_id = ?", room_id)
        if row is None:
            return None
        return RoomSettings(
            algorithm=row["algorithm"],
            rotation_ms=row["rotation_ms"],
            rotation_messages=row["rotation_messages"],
        )

    def close(self, room_id: str) -> None:
        """People of the room want the bridge to take no part in its encryption."""
        self._database.run("INSERT OR IGNORE INTO closed_rooms VALUES (?)", room_id)

    def open(self, room_id: str) -> None:
        """The opposite; then, should it be closed again, that is said again."""
        self._database.run("DELETE FROM closed_rooms WHERE room_id = ?", room_id)
        self.untold(room_id)

    def is_closed(self, room_id: str) -> bool:
        """Whether people of the room closed it."""
        return self._database.first("SELECT 1 FROM closed_rooms WHERE room_id = ?", room_id) is not None

    def untold(self, room_id: str) -> None:
        """Whatever the room was told counts no more."""
        self._database.run("DELETE FROM crypto_facts WHERE name = ?", f"told {room_id}")

    def tell_once(self, room_id: str) -> bool:
        """Whether the room has still to be told that it is closed; from now on it has not."""
        return bool(
            self._database.run("INSERT OR IGNORE INTO crypto_facts VALUES (?, '')", f"told {room_id}")
        )
