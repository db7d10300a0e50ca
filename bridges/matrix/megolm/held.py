"""Encrypted events whose key is not here yet.

Each waits a while, out of the way of what others do after it; what its own sender does waits behind it. Then
the room's other side is told that there was a message; should the key come later, that text is replaced by
the message.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from bridges.matrix.database import Database
from bridges.matrix.fallbacks import readable
from bridges.matrix.queue import Incoming

# A key is sent before its first message and comes by another way; across a busy federation that takes
# seconds.
PATIENCE_MS = 30_000
# Events of a room that wait at once; what comes beyond is told at once.
MAX_WAITING = 100
# Events of a room kept for a key that comes late; of older ones the text stays.
MAX_KEPT = 1000
# In place of a session: the event waits for one of the same sender before it, and for no key.
_BEHIND = ""
# What makes the ID of the replacement of an event; no event ID has it.
_LATE = "~decrypted"


class Held:
    """The events that wait for keys. ``clock`` gives milliseconds."""

    def __init__(self, database: Database, *, clock: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock

    def hold(self, incoming: Incoming, session_id: str) -> bool:
        """Let an event wait for the key of its session; whether it may, or has waited long enough."""
        if self._row(str(incoming.event["event_id"])) is not None:
            return False
        return self._put(incoming, session_id, self._clock())

    def hold_behind(self, incoming: Incoming) -> bool:
        """Let an event wait if one of the same sender waits that came before it, for as long as that one:
        people's words stay in order, and what they take back is here before it is taken back. Whether it has
        to, and may.
        """
        since = self._database.one(
            "SELECT MIN(since) FROM undecrypted JOIN incoming USING (event_id) "
            "WHERE undecrypted.room_id = ? AND said = 0 "
            "AND position < (SELECT position FROM incoming WHERE event_id = ?) "
            "AND json_extract(undecrypted.event, '$.sender') = ?",
            incoming.room_id,
            incoming.event_id,
            incoming.event.get("sender"),
        )[0]
        return since is not None and self._put(incoming, _BEHIND, int(since))

    def _put(self, incoming: Incoming, session_id: str, since: int) -> bool:
        room_id = incoming.room_id
        with self._database.together():
            waiting = self._database.one(
                "SELECT COUNT(*) FROM undecrypted WHERE room_id = ? AND said = 0", room_id
            )[0]
            may_wait = int(waiting) < MAX_WAITING
            if not may_wait and session_id == _BEHIND:
                return False
            self._database.run(
                "INSERT INTO undecrypted VALUES (?, ?, ?, ?, ?, ?)",
                incoming.event_id,
                room_id,
                session_id,
                json.dumps(incoming.event),
                since,
                not may_wait,
            )
            self._database.run(
                "DELETE FROM undecrypted WHERE said = 1 AND event_id IN (SELECT event_id FROM undecrypted "
                "WHERE room_id = ? ORDER BY since DESC, event_id LIMIT -1 OFFSET ?)",
                room_id,
                MAX_KEPT,
            )
            if may_wait:
                self._database.run(
                    "UPDATE incoming SET state = 'held', event = NULL WHERE event_id = ?", incoming.event_id
                )
        return may_wait

    def _row(self, event_id: str) -> Mapping[str, Any] | None:
        row = self._database.first("SELECT * FROM undecrypted WHERE event_id = ?", event_id)
        return None if row is None else dict(row)

    def key_came(self, room_id: str, session_id: str) -> int:
        """The key of a session is here, or a better one; returns how many events can be looked at again."""
        rows = self._database.all(
            "SELECT event_id, event, said FROM undecrypted WHERE room_id = ? AND session_id = ?",
            room_id,
            session_id,
        )
        with self._database.together():
            for row in rows:
                if not row["said"]:
                    self._queue_again(row["event_id"], row["event"])
                elif self._is_told(row["event_id"]):
                    self._database.run(
                        "INSERT OR IGNORE INTO incoming (room_id, event_id, event) VALUES (?, ?, ?)",
                        room_id,
                        row["event_id"] + _LATE,
                        row["event"],
                    )
                self._database.run("DELETE FROM undecrypted WHERE event_id = ?", row["event_id"])
            self._let_go()
        return len(rows)

    def _let_go(self) -> None:
        """Queue again what waits behind nothing any more."""
        for row in self._database.all(
            "SELECT event_id, event FROM undecrypted AS behind WHERE session_id = ? AND NOT EXISTS "
            "(SELECT 1 FROM undecrypted WHERE room_id = behind.room_id AND said = 0 AND session_id <> ? "
            "AND json_extract(event, '$.sender') = json_extract(behind.event, '$.sender'))",
            _BEHIND,
            _BEHIND,
        ):
            self._queue_again(row["event_id"], row["event"])
            self._database.run("DELETE FROM undecrypted WHERE event_id = ?", row["event_id"])

    def withheld(self, room_id: str, session_id: str, sender: str) -> bool:
        """The sender says that the key of a session will not come: its messages need not wait. Whether any
        does.
        """
        changed = self._database.run(
            "UPDATE undecrypted SET since = ? WHERE room_id = ? AND session_id = ? "
            "AND json_extract(event, '$.sender') = ?",
            self._clock() - PATIENCE_MS,
            room_id,
            session_id,
            sender,
        )
        return bool(changed)

    def give_up(self) -> None:
        """Queue again what has waited long enough, to be told of."""
        with self._database.together():
            for row in self._database.all(
                "SELECT event_id, event FROM undecrypted WHERE said = 0 AND session_id <> ? AND since <= ?",
                _BEHIND,
                self._clock() - PATIENCE_MS,
            ):
                self._queue_again(row["event_id"], row["event"])
                self._database.run("UPDATE undecrypted SET said = 1 WHERE event_id = ?", row["event_id"])
            self._let_go()

    def patience(self) -> int | None:
        """Milliseconds until there is something to give up; ``None`` if nothing waits."""
        oldest = self._database.one("SELECT MIN(since) FROM undecrypted WHERE said = 0")[0]
        return None if oldest is None else max(0, int(oldest) + PATIENCE_MS - self._clock())

    def _queue_again(self, event_id: str, event: str) -> None:
        self._database.run(
            "UPDATE incoming SET state = 'waiting', event = ? WHERE event_id = ? AND state = 'held'",
            event,
            event_id,
        )

    def _is_told(self, event_id: str) -> bool:
        """Whether the other side was told of the event; it may be about to be."""
        row = self._database.first("SELECT state FROM incoming WHERE event_id = ?", event_id)
        return row is not None and row["state"] != "waiting"


def is_late(incoming: Incoming) -> bool:
    """Whether this stands for an event that the other side was told of as unreadable."""
    return incoming.event_id.endswith(_LATE)


def replacement(incoming: Incoming, event: Mapping[str, Any]) -> dict[str, Any]:
    """What replaces the text that there was a message: an edit of it by its sender; ``event`` is
    decrypted.
    """
    content = event["content"]
    relation = content.get("m.relates_to")
    if isinstance(relation, dict) and relation.get("rel_type") == "m.replace":
        return {**event, "event_id": incoming.event_id}  # itself an edit, of what it names
    if event["type"] != "m.room.message":
        content = {"msgtype": "m.text", "body": readable(str(event["type"]), content)}
    edit = {
        **content,
        "m.new_content": {name: value for name, value in content.items() if name != "m.relates_to"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": event["event_id"]},
    }
    return {**event, "type": "m.room.message", "event_id": incoming.event_id, "content": edit}
