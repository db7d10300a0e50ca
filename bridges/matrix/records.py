"""What the bridge's database is asked and told: the queue of incoming events, the rooms, the map of
messages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from sqlite3 import Row
from typing import Any

from bridges.matrix.content import Known
from bridges.matrix.database import Database
from bridges.matrix.heads import Heads

JsonObject = dict[str, Any]

# The homeserver repeats the last transaction only; what is older is known by its events.
TRANSACTIONS_KEPT = 1000


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """An event from the homeserver that waits for its turn."""

    position: int
    room_id: str
    event_id: str
    event: JsonObject


def _incoming(row: Row) -> Incoming:
    return Incoming(
        position=row["position"],
        room_id=row["room_id"],
        event_id=row["event_id"],
        event=json.loads(row["event"]),
    )


class IncomingQueue:
    """Events the homeserver pushed, in order of arrival. What it pushes twice is in here once.

    Args:
        conceal: makes of an event what may be written down; it is given back like that.
    """

    def __init__(
        self, database: Database, *, conceal: Callable[[JsonObject], JsonObject] = lambda event: event
    ) -> None:
        self._database = database
        self._heads = Heads(database)
        self._conceal = conceal

    def accept(
        self, txn_id: str, body: bytes, events: Sequence[JsonObject], also: Callable[[], bool] = bool
    ) -> bool:
        """Take a transaction; whether there is something new. Durable on return, with what ``also`` keeps.

        Transaction IDs begin anew when the homeserver restarts, so one is only known together with its
        body; events are known by their own IDs.
        """
        new = False
        with self._database.together():
            if not self._database.run(
                "INSERT OR IGNORE INTO transactions (txn_id, digest) VALUES (?, ?)",
                txn_id,
                sha256(body).digest(),
            ):
                return False
            self._database.run(
                "DELETE FROM transactions WHERE number <= (SELECT MAX(number) FROM transactions) - ?",
                TRANSACTIONS_KEPT,
            )
            for event in events:
                new |= self.add(event)
            return also() or new

    def add(self, event: JsonObject) -> bool:
        """Queue one event unless it was here before; whether it was new."""
        event_id, room_id = event.get("event_id"), event.get("room_id")
        if not isinstance(event_id, str) or not isinstance(room_id, str):
            return False
        self._heads.note(event)
        if self._database.first("SELECT 1 FROM messages WHERE matrix_event_id = ?", event_id) is not None:
            return False
        return bool(
            self._database.run(
                "INSERT OR IGNORE INTO incoming (room_id, event_id, event) VALUES (?, ?, ?)",
                room_id,
                event_id,
                json.dumps(self._conceal(event)),
            )
        )

    def newest(self) -> int:
        """The position of the event that was queued last."""
        return int(self._database.one("SELECT coalesce(MAX(position), 0) FROM incoming")[0])

    def put_in_order(
        self, room_id: str, timeline: Sequence[tuple[str, JsonObject | None]], since: int
    ) -> int:
        """Queue the events of a timeline, oldest first, that were not here before (of what is known, there is
        the ID alone), and let all of it that waits wait in this order. Returns how many were missing.

        ``since`` is what ``newest`` was when the timeline was read: what was queued later, and is not in it,
        is newer than all of it.
        """
        found, last, moving = 0, 0, False
        with self._database.together():
            until = self.newest()
            for event_id, event in timeline:
                if event is not None and self.add(event):
                    found, moving = found + 1, True
                    continue
                place = self._waiting_at(event_id)
                if place is not None and (moving or place < last):
                    self._move_behind(event_id)
                    moving = True
                last = place or last
            if moving:
                read = {event_id for event_id, _ in timeline}
                for row in self._database.all(
                    "SELECT event_id FROM incoming WHERE room_id = ? AND position > ? AND position <= ? "
                    "ORDER BY position",
                    room_id,
                    since,
                    until,
                ):
                    if row["event_id"] not in read:
                        self._move_behind(row["event_id"])
        return found

    def _waiting_at(self, event_id: str) -> int | None:
        row = self._database.first(
            "SELECT position FROM incoming WHERE event_id = ? AND state IN ('waiting', 'held')", event_id
        )
        return None if row is None else int(row["position"])

    def _move_behind(self, event_id: str) -> None:
        """Let an event that waits wait behind all others."""
        self._database.run(
            "UPDATE incoming SET position = (SELECT MAX(position) + 1 FROM incoming) "
            "WHERE event_id = ? AND state IN ('waiting', 'held')",
            event_id,
        )

    def next(self) -> Incoming | None:
        """The oldest event waiting, of a room that is not just being imported."""
        row = self._database.first(
            "SELECT * FROM incoming WHERE state = 'waiting' AND room_id NOT IN "
            "(SELECT matrix_room_id FROM rooms WHERE phase != ?) ORDER BY position LIMIT 1",
            Phase.LIVE,
        )
        if row is None:
            return None
        return _incoming(row)

    def behind(self, incoming: Incoming, limit: int) -> list[Incoming]:
        """What waits in the same room right behind an event, in order."""
        rows = self._database.all(
            "SELECT * FROM incoming WHERE state = 'waiting' AND room_id = ? AND position > ? "
            "ORDER BY position LIMIT ?",
            incoming.room_id,
            incoming.position,
            limit,
        )
        return [_incoming(row) for row in rows]

    def finish(self, incoming: Incoming, *, skipped: str | None = None) -> None:
        """The event has been dealt with, or ``skipped`` for a reason; only its ID is kept."""
        state = "done" if skipped is None else "skipped"
        self._database.run(
            "UPDATE incoming SET event = NULL, state = ?, reason = ? WHERE event_id = ?",
            state,
            skipped,
            incoming.event_id,
        )

    def waiting(self, room_id: str) -> int:
        """How many events of a room wait for their turn."""
        row = self._database.one(
            "SELECT COUNT(*) FROM incoming WHERE state = 'waiting' AND room_id = ?", room_id
        )
        return int(row[0])

    def knows(self, event_id: str) -> bool:
        """Whether the event was ever pushed, imported, or sent by us."""
        return any(
            self._database.first(f"SELECT 1 FROM {table} WHERE {column} = ?", event_id) is not None  # noqa: S608
            for table, column in (
                ("incoming", "event_id"),
                ("history", "event_id"),
                ("messages", "matrix_event_id"),
            )
        )


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
    "rooms",
)


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

    def forget(self, matrix_room_id: str) -> None:
        """The room is not bridged any more. Bridged again, it is a new room at the provider."""
        with self._database.together():
            self._database.run(
                "DELETE FROM outgoing WHERE matrix_event_id IN "
                "(SELECT event_id FROM incoming WHERE room_id = ?)",
                matrix_room_id,
            )
            self._database.run("DELETE FROM incoming WHERE room_id = ?", matrix_room_id)
            for table in _ROOM_TABLES:
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


class Messages:
    """The map of messages; a ``content.Lookup``."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        return self._known("matrix_event_id = ?", event_id)

    def by_message(self, message_id: bytes) -> Known | None:
        """As ``content.Lookup``."""
        return self._known("message_id = ?", message_id)

    def by_log(self, event_id: str) -> Known | None:
        """As ``content.Lookup``; of several Matrix events for one message, the first."""
        return self._known("log_event_id = ?", event_id)

    def _known(self, condition: str, value: object) -> Known | None:
        # The condition is one of the three constants above.
        query = f"SELECT * FROM messages WHERE {condition} ORDER BY part LIMIT 1"  # noqa: S608
        row = self._database.first(query, value)
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
