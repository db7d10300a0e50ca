"""Finding what the homeserver forgot to push.

Events that reach a homeserver late, by back-filling, are never pushed to application services, and after a
restart it may lose some altogether. So now and then the newest part of each room's timeline is read again,
and what was never here joins the queue: before what is newer, as far as that still waits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
import trio

from bridges.matrix.continuity import Continuity, Peer
from bridges.matrix.failures import persist
from bridges.matrix.links import Link, Phase, RoomLinks
from bridges.matrix.queue import Incoming, IncomingQueue
from linearized.client import Page

AUDIT_PAGE = 100
# Pages read even if they hold nothing new: back-filled events may lie between known ones.
MIN_PAGES = 3
# Pages read at most in one audit; the next one goes on where nothing is known.
MAX_PAGES = 50
# Audits without a find after which a room is read no further back than usual.
QUIET_AUDITS = 5
# How long a room's events wait to be read of, once something may have been forgotten. A homeserver that was
# killed is there again by then; one that fails for this room only must not keep all others waiting for ever.
CATCH_UP_DEADLINE = 120.0

JsonObject = dict[str, Any]


class Timelines(Protocol):
    """The homeserver, as far as it has to be asked."""

    async def messages_before(self, room_id: str, token: str | None, *, limit: int) -> Page:
        """As ``HomeserverApi``."""
        ...


class Restoration(Protocol):
    """Whoever notices that the homeserver was restored from a backup."""

    def suspect(self) -> None:
        """As ``Restored``."""
        ...

    async def look(self, link: Link) -> bool:
        """As ``Restored``."""
        ...


log = structlog.get_logger(__name__)


class Audits:
    """Reads rooms again. It remembers, as long as it lives, how far back something was found in each."""

    def __init__(self, homeserver: Timelines, queue: IncomingQueue) -> None:
        self._homeserver = homeserver
        self._queue = queue
        self._deep: dict[str, _Deep] = {}

    async def run(self, link: Link) -> int:
        """Queue the events of a room that were never pushed, oldest first; returns how many.

        A homeserver that lacks events goes on fetching them after it has answered. So what lies as far back
        as something was found is read again, until audits have found nothing for a while.

        Raises:
            ClientError: the homeserver does not answer; nothing is lost by trying later.
        """
        deep = self._deep.get(link.matrix_room_id, _Deep())
        reading = await _read(link, self._homeserver, self._queue, MIN_PAGES, until=deep.event_id)
        found = self._put(link, reading)
        if found and not reading.is_before(deep.event_id):
            deep.event_id = reading.deepest
        deep.quiet = 0 if found else deep.quiet + 1
        self._deep[link.matrix_room_id] = deep if deep.quiet < QUIET_AUDITS else _Deep(quiet=deep.quiet)
        return found

    async def catch_up(self, link: Link) -> int:
        """Queue what the homeserver forgot to push just now; returns how many events.

        Raises:
            ClientError: as ``run``.
        """
        return self._put(link, await _read(link, self._homeserver, self._queue, 1))

    def _put(self, link: Link, reading: _Reading) -> int:
        return self._queue.put_in_order(link.matrix_room_id, reading.timeline[::-1], reading.since)


class CatchingUp:
    """Reads rooms of which something may have been forgotten, before more of their events are handed out."""

    def __init__(self, audits: Audits, queue: IncomingQueue, links: RoomLinks, restored: Restoration) -> None:
        self.continuity = Continuity()
        self._restored = restored
        self._audits = audits
        self._queue = queue
        self._links = links

    def note(self, txn_id: str, peer: Peer | None) -> None:
        """A transaction came, by a connection from there."""
        breaks = self.continuity.breaks
        self.continuity.note(txn_id, peer)
        if self.continuity.breaks != breaks:
            self._restored.suspect()

    async def next(self) -> Incoming | None:
        """The event whose turn it is.

        If the homeserver does not say in time what else is in its room, the next audit finds what is missing.
        """
        # What waited when its room was read is whole, whatever has come meanwhile: where each transaction has
        # a connection of its own, each of them is a break.
        read: set[str] = set()
        while (incoming := self._queue.next()) is not None and incoming.room_id not in read:
            if not await self._read(incoming.room_id):
                break
            read.add(incoming.room_id)
        return incoming

    async def _read(self, room_id: str) -> bool:
        """Read a room if need be; whether it was."""
        link, breaks = self._links.of_matrix(room_id), self.continuity.breaks
        if link is None or link.phase is not Phase.LIVE or self.continuity.is_whole(room_id):
            return False
        found = 0

        async def read() -> None:
            nonlocal found
            found = await self._audits.catch_up(link)
            await self._restored.look(link)

        with trio.move_on_after(CATCH_UP_DEADLINE) as scope:
            error = await persist(read)
        if scope.cancelled_caught or error is not None:
            log.warning("catching up failed", room_id=room_id)
        elif found:
            log.info("read before the homeserver pushed it", room_id=room_id, events=found)
        self.continuity.was_read(room_id, breaks)
        return True


@dataclass(slots=True)
class _Deep:
    """The end of the deepest page with something new, and how many audits have found nothing since."""

    event_id: str | None = None
    quiet: int = 0


@dataclass(slots=True)
class _Reading:
    """What is in the room, newest first: IDs, and the events that were never here; the end of the deepest
    page that had some of these; and what ended the pages after that. ``since`` is what was queued last
    before.
    """

    since: int
    timeline: list[tuple[str, JsonObject | None]] = field(default_factory=list)
    deepest: str | None = None
    behind: list[str] = field(default_factory=list)

    def is_before(self, event_id: str | None) -> bool:
        """Whether a page that an earlier audit went back to lies behind everything that is new."""
        return event_id is not None and event_id in self.behind


async def _read(
    link: Link, homeserver: Timelines, queue: IncomingQueue, min_pages: int, *, until: str | None = None
) -> _Reading:
    """Read ``min_pages`` and as far as the event ``until``, whatever is there, and on while there is
    something new.
    """
    found, token, reached = _Reading(since=queue.newest()), None, until is None
    for number in range(1, MAX_PAGES + 1):
        page = await homeserver.messages_before(link.matrix_room_id, token, limit=AUDIT_PAGE)
        ids = [str(event.get("event_id", "")) for event in page.chunk]
        events = [
            (event_id, None if queue.knows(event_id) else event)
            for event_id, event in zip(ids, page.chunk, strict=True)
        ]
        new = any(event is not None for _, event in events)
        reached = reached or until in ids
        found.timeline += events
        if new:
            found.deepest, found.behind = ids[-1], []
        else:
            found.behind += ids
        token = page.end
        if token is None or not page.chunk or (number >= min_pages and reached and not new):
            break
    return found
