"""The map of messages: what each is called on either side."""

from __future__ import annotations

from collections.abc import Sequence

from bridges.matrix.content import Known
from bridges.matrix.database import Database


class Messages:
    """The map of messages; a ``content.Lookup``. With a ``matrix_room_id``, of that Matrix room only."""

    def __init__(self, database: Database, matrix_room_id: str | None = None) -> None:
        self._database = database
        self._matrix_room_id = matrix_room_id

    def within(self, matrix_room_id: str) -> Messages:
        """The same for one Matrix room. A room cannot refer to what was said in the one it replaced."""
        return Messages(self._database, matrix_room_id)

    def put(self, matrix_room_id: str, known: Known, *, part: int = 0) -> None:
        """Remember a message, or one ``part`` of a message that became several Matrix events."""
        self._database.run(
            "INSERT OR REPLACE INTO messages VALUES (?, ?, ?, ?, ?, ?, ?)",
            known.matrix_event_id,
            matrix_room_id,
            known.log_event_id,
            known.message_id,
            known.sender,
            known.in_reply_to,
            part,
        )

    def put_parts(self, matrix_room_id: str, parts: Sequence[Known]) -> None:
        """Remember all Matrix events that one message became."""
        with self._database.together():
            for number, known in enumerate(parts):
                self.put(matrix_room_id, known, part=number)

    def by_matrix(self, event_id: str) -> Known | None:
        """As ``content.Lookup``."""
        return self._known("matrix_event_id = ?1", event_id)

    def by_message(self, message_id: bytes) -> Known | None:
        """As ``content.Lookup``."""
        return self._known("message_id = ?1", message_id)

    def by_log(self, event_id: str) -> Known | None:
        """As ``content.Lookup``; of several Matrix events for one message, the first."""
        return self._known("log_event_id = ?1", event_id)

    def _known(self, condition: str, value: object) -> Known | None:
        # The condition is one of the three constants above.
        query = (
            f"SELECT * FROM messages WHERE {condition} AND (?2 IS NULL OR matrix_room_id = ?2) "  # noqa: S608
            "ORDER BY part LIMIT 1"
        )
        row = self._database.first(query, value, self._matrix_room_id)
        if row is None:
            return None
        return Known(
            matrix_event_id=row["matrix_event_id"],
            log_event_id=row["log_event_id"],
            message_id=row["message_id"],
            sender=row["sender"],
            in_reply_to=row["in_reply_to"],
        )

    # --- messages on their way out: fixed before the first attempt, so that every attempt sends the same ---

    def outgoing(self, matrix_event_id: str) -> bytes | None:
        """The MIMI content an event became in an earlier attempt (its encoding)."""
        row = self._database.first("SELECT payload FROM outgoing WHERE matrix_event_id = ?", matrix_event_id)
        return None if row is None else bytes(row["payload"])

    def fix_outgoing(self, matrix_event_id: str, payload: bytes, message_id: bytes) -> None:
        """Remember what an event becomes, before it is sent."""
        self._database.run(
            "INSERT OR IGNORE INTO outgoing VALUES (?, ?, ?)", matrix_event_id, payload, message_id
        )

    def is_outgoing(self, message_id: bytes) -> bool:
        """Whether this bridge sends, or sent, the message with this ID."""
        return (
            self._database.first("SELECT 1 FROM outgoing WHERE message_id = ?", message_id) is not None
            or self._database.first("SELECT 1 FROM messages WHERE message_id = ?", message_id) is not None
        )

    def sent(self, matrix_room_id: str, known: Known) -> None:
        """An outgoing message has its place in the log."""
        with self._database.together():
            self.put(matrix_room_id, known)
            self._database.run("DELETE FROM outgoing WHERE matrix_event_id = ?", known.matrix_event_id)
