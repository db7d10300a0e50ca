"""The events that the homeserver pushed, until each has been dealt with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from sqlite3 import Row
from typing import Any

from bridges.matrix.database import Database
from bridges.matrix.heads import Heads
from bridges.matrix.links import Phase

JsonObject = dict[str, Any]

# The homeserver repeats the last transaction only; what is older is known by its events.
TRANSACTIONS_KEPT = 1000


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
        # The names in the statement are those written out below.
        return any(
            self._database.first(f"SELECT 1 FROM {table} WHERE {column} = ?", event_id) is not None  # noqa: S608
            for table, column in (
                ("incoming", "event_id"),
                ("history", "event_id"),
                ("messages", "matrix_event_id"),
            )
        )
