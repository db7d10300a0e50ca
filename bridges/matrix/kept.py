"""What people at providers said of late, so that it can be shown again to a homeserver that forgot it.

It is sealed like people's tokens. What is deleted, or made to be forgotten, is not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from sqlite3 import Row

from bridges.matrix.database import Database
from bridges.matrix.doubles.sealing import Sealing
from bridges.matrix.expiry import Expirations
from linearized.mimi.content import MimiContent, NullPart

# Of each room, the newest; whoever says more in two days is not waited for.
MAX_KEPT = 5000
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A message as it was shown: ``sender`` is the ghost; ``ts`` is in milliseconds since the Unix epoch."""

    matrix_room_id: str
    log_event_id: str
    message_id: bytes
    sender: str
    ts: int
    content: MimiContent


class Kept:
    """The messages kept. ``clock`` gives milliseconds; what is older than ``hours`` goes."""

    def __init__(self, database: Database, sealing: Sealing, *, hours: int, clock: Callable[[], int]) -> None:
        self._database = database
        self._sealing = sealing
        self._hours = hours
        self._clock = clock
        self._expirations = Expirations(database)

    def put(self, said: Said) -> None:
        """Keep a message that is about to be shown; a second time changes nothing."""
        content, now = said.content, self._clock()
        with self._database.together():
            if isinstance(content.part, NullPart) and content.replaces is not None:
                self._database.run("DELETE FROM kept WHERE message_id = ?", content.replaces)
            # Not what ends by itself, nor what edits such.
            if self._expirations.find(said.log_event_id) is None:
                self._database.run(
                    "INSERT OR IGNORE INTO kept "
                    "(matrix_room_id, log_event_id, message_id, sender, ts, since, payload) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    said.matrix_room_id,
                    said.log_event_id,
                    said.message_id,
                    said.sender,
                    said.ts,
                    now,
                    self._sealing.message(said.log_event_id, content.encode()),
                )
            self._database.run(
                "DELETE FROM kept WHERE gone = 0 AND matrix_room_id = ?1 AND (since < ?2 OR number <= "
                "(SELECT number FROM kept WHERE matrix_room_id = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?3))",
                said.matrix_room_id,
                now - self._hours * _HOUR_MS,
                MAX_KEPT,
            )

    def redacted(self, event_id: str) -> None:
        """A Matrix event was redacted there: what it stands for is not said again."""
        self._database.run(
            "DELETE FROM kept WHERE log_event_id = "
            "(SELECT log_event_id FROM messages WHERE matrix_event_id = ?)",
            event_id,
        )

    def shown(self, matrix_room_id: str) -> list[tuple[str, str]]:
        """The messages of a room, and of each the last Matrix event that it became."""
        rows = self._database.all(
            "SELECT log_event_id, (SELECT matrix_event_id FROM messages "
            "WHERE messages.log_event_id = kept.log_event_id ORDER BY part DESC LIMIT 1) AS event_id "
            "FROM kept WHERE matrix_room_id = ? AND gone = 0 ORDER BY number",
            matrix_room_id,
        )
        return [(row["log_event_id"], row["event_id"]) for row in rows if row["event_id"] is not None]

    def lost(self, log_event_id: str) -> None:
        """The homeserver has the message no longer: it is to be shown again, as something new."""
        with self._database.together():
            self._database.run("UPDATE kept SET gone = 1 WHERE log_event_id = ?", log_event_id)
            self._database.run("DELETE FROM messages WHERE log_event_id = ?", log_event_id)
            self._database.run("UPDATE sayings SET event_id = NULL WHERE log_event_id = ?", log_event_id)

    def next_lost(self, matrix_room_id: str) -> Said | None:
        """The oldest message of a room that is to be shown again."""
        row = self._database.first(
            "SELECT * FROM kept WHERE matrix_room_id = ? AND gone = 1 ORDER BY number LIMIT 1", matrix_room_id
        )
        return None if row is None else self._said(row)

    def shown_again(self, said: Said) -> None:
        """The homeserver has the message again, or cannot have it."""
        self._database.run("UPDATE kept SET gone = 0 WHERE log_event_id = ?", said.log_event_id)

    def _said(self, row: Row) -> Said:
        payload = self._sealing.open_message(row["log_event_id"], row["payload"])
        return Said(
            matrix_room_id=row["matrix_room_id"],
            log_event_id=row["log_event_id"],
            message_id=row["message_id"],
            sender=row["sender"],
            ts=row["ts"],
            content=MimiContent.decode(payload),
        )
