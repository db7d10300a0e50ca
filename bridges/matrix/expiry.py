"""Messages that expire: at their time, what became of them in Matrix is redacted.

When that is, is decided and written down before a message is first said, and so it stays, whenever the bridge
is killed. The bridge is the client that receives the message, so "after reading it" counts from when it says
it in Matrix: one redaction serves everybody in the room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from sqlite3 import Row
from typing import Final

import structlog
import trio

from bridges.matrix.aside import SetAside
from bridges.matrix.content import NotBridged
from bridges.matrix.database import Database
from bridges.matrix.doubles.speaking import Speaking
from bridges.matrix.failures import carried, is_passing
from bridges.matrix.ghosts import Ghosts
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.links import Link
from bridges.matrix.message_map import Messages
from bridges.matrix.rendering import RedactEvent
from linearized.client import ApiError
from linearized.mimi.content import MimiContent, NullPart

MS: Final = 1000
# The longest sleep, in seconds: the machine's time may be set while we sleep.
MAX_SLEEP: Final = 60.0
# Messages looked up at once; what more is due comes next.
BATCH: Final = 100

log = structlog.get_logger(__name__)


class State(StrEnum):
    """How far a message that expires is."""

    BEGUN = "begun"  # it may have been said
    SAID = "said"  # all of it was, or never will be
    GONE = "gone"  # it was redacted
    THEIRS = "theirs"  # it came from Matrix, where the homeserver makes it go


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiring:
    """A message of the log that ends ``at`` a time, in milliseconds since the Unix epoch."""

    log_event_id: str
    matrix_room_id: str
    sender: str
    at: int


class Expirations:
    """What is remembered of messages that expire, for as long as their room is bridged."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, log_event_id: str | None) -> Expiring | None:
        """The message, if it is known and expires."""
        return _expiring(
            self._database.first("SELECT * FROM expirations WHERE log_event_id = ?", log_event_id)
        )

    def put(self, expiring: Expiring, state: State) -> None:
        """Remember a message; one that is known stays as it is."""
        self._database.run(
            "INSERT OR IGNORE INTO expirations VALUES (?, ?, ?, ?, ?)",
            expiring.log_event_id,
            expiring.matrix_room_id,
            expiring.sender,
            expiring.at,
            state,
        )

    def move(self, log_event_id: str, before: State, after: State) -> bool:
        """Whether the message was in the state ``before``; it is in ``after`` then."""
        query = "UPDATE expirations SET state = ? WHERE log_event_id = ? AND state = ?"
        return bool(self._database.run(query, after, log_event_id, before))

    def due(self, now: int) -> list[Expiring]:
        """Messages whose time has come, oldest first, ``BATCH`` at most."""
        rows = self._database.all(
            "SELECT * FROM expirations WHERE state = 'said' AND at <= ? ORDER BY at LIMIT ?", now, BATCH
        )
        return [found for found in map(_expiring, rows) if found is not None]

    def of_room(self, matrix_room_id: str) -> list[Expiring]:
        """Every message that a room will lose."""
        rows = self._database.all(
            "SELECT * FROM expirations WHERE matrix_room_id = ? AND state IN ('begun', 'said') ORDER BY at",
            matrix_room_id,
        )
        return [found for found in map(_expiring, rows) if found is not None]

    def gone(self, matrix_room_id: str) -> list[Expiring]:
        """Every message that a room has lost."""
        rows = self._database.all(
            "SELECT * FROM expirations WHERE matrix_room_id = ? AND state = 'gone' ORDER BY at",
            matrix_room_id,
        )
        return [found for found in map(_expiring, rows) if found is not None]

    def next(self) -> int | None:
        """When the next message ends."""
        row = self._database.one("SELECT MIN(at) FROM expirations WHERE state = 'said'")
        return None if row[0] is None else int(row[0])

    def events(self, expiring: Expiring) -> list[tuple[int, str]]:
        """The Matrix events that a message became: which part of it, and the event ID."""
        rows = self._database.all(
            "SELECT part, matrix_event_id FROM messages WHERE log_event_id = ? AND matrix_room_id = ? "
            "ORDER BY part",
            expiring.log_event_id,
            expiring.matrix_room_id,
        )
        return [(row["part"], row["matrix_event_id"]) for row in rows]


def _expiring(row: Row | None) -> Expiring | None:
    if row is None:
        return None
    return Expiring(
        log_event_id=row["log_event_id"],
        matrix_room_id=row["matrix_room_id"],
        sender=row["sender"],
        at=row["at"],
    )


class Expiry:
    """Redacts messages at their time. ``bot`` is the homeserver as the bot; ``clock`` gives milliseconds
    since the Unix epoch.
    """

    def __init__(
        self,
        *,
        database: Database,
        ghosts: Ghosts,
        speaking: Speaking,
        bot: HomeserverApi,
        clock: Callable[[], int],
    ) -> None:
        self._ghosts = ghosts
        self._speaking = speaking
        self._bot = bot
        self._clock = clock
        self._aside = SetAside(database)
        self._messages = Messages(database)
        self._expirations = Expirations(database)
        self._changed = trio.Event()

    def begin(self, link: Link, log_event_id: str, sender: str, content: MimiContent) -> None:
        """Decide when a message ends, which ``sender``, a ghost, is about to say in Matrix.

        Raises:
            NotBridged: it has ended.
        """
        if self._expirations.find(log_event_id) is not None:
            return  # an attempt of before decided, and may have said some of it
        at = self._end(content)
        if at is None:
            return
        # "the message should be locally deleted and disregarded"
        if at <= self._clock():
            raise NotBridged("the message has expired")
        expiring = Expiring(
            log_event_id=log_event_id, matrix_room_id=link.matrix_room_id, sender=sender, at=at
        )
        self._expirations.put(expiring, State.BEGUN)

    def _end(self, content: MimiContent) -> int | None:
        if isinstance(content.part, NullPart):
            return None
        original = None if content.replaces is None else self._messages.by_message(content.replaces)
        if original is not None:
            # "even the original sender of a message MUST NOT be able to change the semantics of any other
            # portion of the message except for the contents of the NestedPart": an edit ends with what it
            # edits, and not before or after it.
            found = self._expirations.find(original.log_event_id)
            return None if found is None else found.at
        if content.expires is None:
            return None
        return content.expires.time * MS + (self._clock() if content.expires.relative else 0)

    def said(self, log_event_id: str) -> None:
        """The message was said, or never will be."""
        if self._expirations.move(log_event_id, State.BEGUN, State.SAID):
            self._changed.set()

    async def again(self, matrix_room_id: str, is_there: Callable[[str], Awaitable[bool]]) -> None:
        """Redact again what a room has that it had lost. ``is_there`` says whether it has an event.

        Raises:
            ClientError: as ``is_there``.
        """
        for expiring in self._expirations.gone(matrix_room_id):
            for _, event_id in self._expirations.events(expiring):
                if await is_there(event_id):
                    self._expirations.move(expiring.log_event_id, State.GONE, State.SAID)
                    self._changed.set()

    async def run(self) -> None:
        """Redact what ends, for ever."""
        while True:
            self._changed = trio.Event()
            await self.redact_due()
            at = self._expirations.next()
            if at is None:
                await self._changed.wait()
            else:
                with trio.move_on_after(min(max(at - self._clock(), 0) / MS, MAX_SLEEP)):
                    await self._changed.wait()

    async def redact_due(self) -> None:
        """Redact everything whose time has come. What cannot be redacted is set aside and said in the log."""
        while due := self._expirations.due(self._clock()):
            for expiring in due:
                reason = await carried(partial(self._redact, expiring))
                if reason is not None:
                    room_id, event_id = expiring.matrix_room_id, expiring.log_event_id
                    log.error("an expired message stays", room_id=room_id, event_id=event_id, reason=reason)
                    self._aside.put(room_id, event_id, f"it has expired and was not redacted: {reason}")
                    self._expirations.move(event_id, State.SAID, State.GONE)

    async def redact_all(self, matrix_room_id: str) -> None:
        """Redact now what would end later: after this, nobody is in the room who could.

        Raises:
            ClientError: the homeserver is away or refuses; doing it again continues.
        """
        for expiring in self._expirations.of_room(matrix_room_id):
            await self._redact(expiring)

    async def _redact(self, expiring: Expiring) -> None:
        ghost = await self._ghosts.ensure(expiring.sender)
        room_id = expiring.matrix_room_id
        for part, event_id in self._expirations.events(expiring):
            try:
                await self._speaking.act(
                    ghost,
                    RedactEvent(event_id),
                    sender=expiring.sender,
                    matrix_room_id=room_id,
                    log_event_id=f"{expiring.log_event_id}-expired",
                    number=part,
                    ts=None,
                )
            except ApiError as error:
                if is_passing(error):
                    raise
                # The ghost has left, or may not speak any more.
                await self._bot.redact(room_id, event_id, txn_id=f"expired-{event_id}")
        for state in (State.BEGUN, State.SAID):
            self._expirations.move(expiring.log_event_id, state, State.GONE)
